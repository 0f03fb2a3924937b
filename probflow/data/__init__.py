"""Data as dicts name -> tensor: real digits, the MNIST folder, toy densities, and mini-batches of them."""

from __future__ import annotations

from probflow.data.batches import Batches
from probflow.data.digits import load_digits
from probflow.data.energies import ENERGIES, energy
from probflow.data.mnist import load_mnist, read_idx
from probflow.data.split import Split
from probflow.data.toy import TOYS, toy
from probflow.data.transforms import binarize, one_hot
from probflow.data.zip_batches import ZipBatches

__all__ = [
    "ENERGIES",
    "TOYS",
    "Batches",
    "Split",
    "ZipBatches",
    "binarize",
    "energy",
    "load_digits",
    "load_mnist",
    "one_hot",
    "read_idx",
    "toy",
]
