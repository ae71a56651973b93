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

static PyObject *batch_statistics_(PyObject *self, PyObject *args) {
    unsigned long long x, weight, bias, running_mean, running_variance, statistics;
    Py_ssize_t pixels;
    int channels;
    float momentum, eps;
    (void)self;
    if (!PyArg_ParseTuple(args, "KniKKKKffK", &x, &pixels, &channels, &weight, &bias, &running_mean,
                          &running_variance, &momentum, &eps, &statistics))
        return NULL;
    CALL(batch_statistics((const bf16 *)x, pixels, channels, (const float *)weight,
                          (const float *)bias, (float *)running_mean, (float *)running_variance,
                          momentum, eps, (float *)statistics));
}

static PyObject *activate_(PyObject *self, PyObject *args) {
    unsigned long long x, y, statistics, shift;
    int images, height, width, channels, pooling;
    float slope;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKiiiiKKfi", &x, &y, &images, &height, &width, &channels,
                          &statistics, &shift, &slope, &pooling))
        return NULL;
    CALL(activate((const bf16 *)x, (bf16 *)y, images, height, width, channels,
                  (const float *)statistics, (const float *)shift, slope, pooling));
}

static PyObject *activate_backward_(PyObject *self, PyObject *args) {
    unsigned long long x, gradient, dx, statistics, shift, dweight, dbias;
    int images, height, width, channels, pooling;
    float slope;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKKiiiiKKfiKK", &x, &gradient, &dx, &images, &height, &width,
                          &channels, &statistics, &shift, &slope, &pooling, &dweight, &dbias))
        return NULL;
    CALL(activate_backward((const bf16 *)x, (const bf16 *)gradient, (bf16 *)dx, images, height,
                           width, channels, (const float *)statistics, (const float *)shift, slope,
                           pooling, (float *)dweight, (float *)dbias));
}

static PyObject *pool_images(PyObject *self, PyObject *args) {
    unsigned long long x, kernels, shift, y, kept;
    int images, height, width, channels, side, average;
    float slope;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKKKKiiiiifi", &x, &kernels, &shift, &y, &kept, &images, &height,
                          &width, &channels, &side, &slope, &average))
        return NULL;
    CALL(images_pool((const float *)x, (const float *)kernels, (const float *)shift, (bf16 *)y,
                     (Kept *)kept, images, height, width, channels, side, slope, average));
}

static PyObject *pool_images_gradient(PyObject *self, PyObject *args) {
    unsigned long long x, kept, gradient, of_kernels, of_shift;
    int images, height, width, channels, side, average;
    float slope;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKKKKiiiiifi", &x, &kept, &gradient, &of_kernels, &of_shift,
                          &images, &height, &width, &channels, &side, &slope, &average))
        return NULL;
    CALL(images_pool_gradient((const float *)x, (const Kept *)kept, (const bf16 *)gradient,
                              (float *)of_kernels, (float *)of_shift, images, height, width,
                              channels, side, slope, average));
}

static PyObject *normalise_images(PyObject *self, PyObject *args) {
    unsigned long long x, kernels, weight, bias, running_mean, running_variance;
    unsigned long long scaled, shift, seen;
    int images, height, width, channels, side;
    double eps, momentum;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKKKKKKKKiiiiidd", &x, &kernels, &weight, &bias, &running_mean,
                          &running_variance, &scaled, &shift, &seen, &images, &height, &width,
                          &channels, &side, &eps, &momentum))
        return NULL;
    CALL(images_normalise((const float *)x, (const float *)kernels, (const float *)weight,
                          (const float *)bias, (float *)running_mean, (float *)running_variance,
                          (float *)scaled, (float *)shift, (float *)seen, images, height, width,
                          channels, side, eps, momentum));
}

static PyObject *normalise_images_gradient(PyObject *self, PyObject *args) {
    unsigned long long kernels, weight, seen, of_kernels, of_shift, of_weight;
    int channels, side;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKKKKKii", &kernels, &weight, &seen, &of_kernels, &of_shift,
                          &of_weight, &channels, &side))
        return NULL;
    CALL(images_normalise_gradient((const float *)kernels, (const float *)weight,
                                   (const float *)seen, (float *)of_kernels,
                                   (const float *)of_shift, (float *)of_weight, channels, side));
}

static PyMethodDef METHODS[] = {
    {"convolve", convolve, METH_VARARGS, NULL},
    {"kernel_gradient", kernel_gradient, METH_VARARGS, NULL},
    {"dropout", dropout, METH_VARARGS, NULL},
    {"batch_statistics", batch_statistics_, METH_VARARGS, NULL},
    {"activate", activate_, METH_VARARGS, NULL},
    {"activate_backward", activate_backward_, METH_VARARGS, NULL},
    {"pool_images", pool_images, METH_VARARGS, NULL},
    {"pool_images_gradient", pool_images_gradient, METH_VARARGS, NULL},
    {"normalise_images", normalise_images, METH_VARARGS, NULL},
    {"normalise_images_gradient", normalise_images_gradient, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, METHODS,
                                    NULL,                  NULL,       NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&MODULE); }
