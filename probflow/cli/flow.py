"""The flows of ``probflow demo flow``: p(x) on the plane, noise bent layer by layer into data.

Sources: NSF, Durkan et al., arXiv:1906.04032; RealNVP, Dinh et al., arXiv:1605.08803; MAF, Papamakarios et al., arXiv:1705.07057;
NICE, Dinh et al., arXiv:1410.8516.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from probflow.distributions import Flow
from probflow.flows import MAF, NICE, NSF, RealNVP

MODELS: dict[str, Callable[[Sequence[int]], Flow]] = {
    "nsf": lambda hidden: NSF("p(x)", features=2, layers=5, bins=8, hidden=hidden, mixing="lu"),
    "nsf-ar": lambda hidden: NSF("p(x)", features=2, layers=4, bins=8, hidden=hidden, autoregressive=True),
    "realnvp": lambda hidden: RealNVP("p(x)", features=2, layers=12, hidden=hidden),
    "maf": lambda hidden: MAF("p(x)", features=2, layers=10, hidden=hidden),
    "nice": lambda hidden: NICE("p(x)", features=2, layers=8, hidden=hidden),
}
"""Name -> the flow, given the widths of its networks."""
