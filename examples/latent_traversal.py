"""How do images change when their latent codes flow along potentials that obey an equation?

    dz/dt = grad u_k(z, t)  with  u_tt = c^2 Laplace(u),  k = 1, ..., K

K potentials are learned in the latent space of a generator of images, so that a network can tell from the change of an
image which potential moved it. With no option the generator is a small VAE that learns scikit-learn's 1797 digits.
Writes strips and landscape as PNG and GIF, the comparison with simpler methods, a table of measures, the flow, and
traversal.h5, from which all pictures can be drawn again. Takes about 2 minutes; `--quick`, which nobody should believe,
20 s. `pinnflow traverse` is the same from the shell.
Run: python examples/latent_traversal.py
     python examples/latent_traversal.py --data mnist.npz --pde hamilton-jacobi --potentials 8 --output mnist
"""

import argparse

from pinnflow.errors import PinnflowError
from pinnflow.latent.traverse import HELP, Tour, explore


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "generator", "pde", "output", "device", "checkpoint"):
        parser.add_argument(f"--{name}", default=getattr(Tour, name), help=HELP[name])
    for name in ("latent_dim", "potentials", "iterations", "seed"):
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, metavar="N", default=getattr(Tour, name), help=HELP[name])
    for name in ("quick", "resume"):
        parser.add_argument(f"--{name}", action="store_true", help=HELP[name])
    return parser


if __name__ == "__main__":
    parser = read_options()
    try:
        # The whole road is pinnflow/latent/traverse.py: generator, PotentialFlow, baselines, evaluate, pictures.
        found = explore(Tour(**vars(parser.parse_args())), print)
    except (PinnflowError, OSError) as error:
        parser.error(str(error))
    print("wrote", ", ".join(map(str, found.written)))

    # What was found can be asked further: where a code goes, what it looks like there, how well the equation holds.
    flow = found.flow
    z = flow.sample(4)
    path = flow.traverse(z, potential=0, steps=6, step_length=0.35)
    print(f"path {tuple(path.shape)}, images {tuple(flow.render(path).shape)}")
    print(f"relative residual of the equation at its ends {float(flow.residual(path[-1], 6.0).max()):.1e}")
