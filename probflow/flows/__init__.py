"""Ready-made flows: distributions assembled from layers, one line each."""

from __future__ import annotations

from probflow.flows.autoregressive import IAF, MAF
from probflow.flows.couplings import NICE, NSF
from probflow.flows.glow import Glow
from probflow.flows.real_nvp import RealNVP
from probflow.flows.residual_maps import Planar, Radial, Sylvester

__all__ = ["IAF", "MAF", "NICE", "NSF", "Glow", "Planar", "Radial", "RealNVP", "Sylvester"]
