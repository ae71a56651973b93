/* The kernels as a Python module. Addresses come as numbers from `Tensor.data_ptr()`; shapes and
   types are checked by the Python beside it, which is the only one to call these functions. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

#include "kernels.h"

void *workspace(size_t bytes) {
    static _Thread_local void *space;
    static _Thread_local size_t size;
    if (bytes > size) {
        free(space);
        size = (bytes + 63) / 64 * 64;
        space = aligned_alloc(64, size);
        if (!space) size = 0;
    }
    return space;
}

/* A kernel returns 0, or something else where memory was full. */
static PyObject *done(int failed) {
    if (failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

#define ADDRESS "K"
#define CALL(expression)                                                                           \
    int failed;                                                                                    \
    Py_BEGIN_ALLOW_THREADS failed = expression;                                                    \
    Py_END_ALLOW_THREADS return done(failed)

static PyObject *convolve(PyObject *self, PyObject *args) {
    unsigned long long x, weight, y;
    int images, height, width, inputs, outputs, turned;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKKiiiiii", &x, &weight, &y, &images, &height, &width, &inputs,
                          &outputs, &turned))
        return NULL;
    CALL(winograd_convolve((const bf16 *)x, (const float *)weight, (bf16 *)y, images, height, width,
                           inputs, outputs, turned));
}

static PyObject *kernel_gradient(PyObject *self, PyObject *args) {
    unsigned long long x, gradient, out;
    int images, height, width, inputs, outputs;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKKiiiii", &x, &gradient, &out, &images, &height, &width, &inputs,
                          &outputs))
        return NULL;
    CALL(winograd_kernel_gradient((const bf16 *)x, (const bf16 *)gradient, (float *)out, images,
                                  height, width, inputs, outputs));
}

static PyObject *dropout(PyObject *self, PyObject *args) {
    unsigned long long x, y;
    int images, pixels, channels, turn;
    Dropout given;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKiiiiIf(II)I", &x, &y, &images, &pixels, &channels, &turn,
                          &given.drop, &given.scale, &given.keys[0], &given.keys[1], &given.step))
        return NULL;
    CALL(drop_values((const bf16 *)x, (bf16 *)y, images, pixels, channels, turn, &given));
}

static PyMethodDef METHODS[] = {
    {"convolve", convolve, METH_VARARGS, NULL},
    {"kernel_gradient", kernel_gradient, METH_VARARGS, NULL},
    {"dropout", dropout, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, METHODS,
                                    NULL,                  NULL,       NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&MODULE); }
