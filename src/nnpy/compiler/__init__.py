"""The compiler: a list of effects becomes a Program.

specialise and differentiate make the graph of a step; compile_step takes it through share_losses -> fuse -> join_chains
-> fuse_updates -> lower -> schedule -> plan memory -> Ops.
"""

from nnpy.compiler.differentiate import differentiate
from nnpy.compiler.specialise import specialise
from nnpy.compiler.step import SWITCHES, Executable, compile_step, evaluated

__all__ = ["SWITCHES", "Executable", "compile_step", "differentiate", "evaluated", "specialise"]
