"""The user's images, named by where they are: `folder:PATH`, `npz:FILE`, `torchvision:NAME`."""
