"""Equations ready to solve: each is a function of its parameters that returns a `pinnflow.Problem`.

```python
from pdes import wave

solution = wave(speed=2).fit()
```

`ALL` maps every name to its function. A new equation is a file `NAME_equation.py` with a function `NAME` under `@pde`,
and a line here.
"""

from pdes.advection_equation import advection
from pdes.allen_cahn_equation import allen_cahn
from pdes.burgers_equation import burgers
from pdes.fokker_planck_equation import fokker_planck
from pdes.hamilton_jacobi_equation import hamilton_jacobi
from pdes.heat_equation import heat
from pdes.helmholtz_equation import helmholtz
from pdes.klein_gordon_equation import klein_gordon
from pdes.korteweg_de_vries_equation import korteweg_de_vries
from pdes.poisson_equation import poisson
from pdes.registry import ALL, pde
from pdes.schroedinger_equation import schroedinger
from pdes.wave_equation import wave

__all__ = [
    "ALL",
    "advection",
    "allen_cahn",
    "burgers",
    "fokker_planck",
    "hamilton_jacobi",
    "heat",
    "helmholtz",
    "klein_gordon",
    "korteweg_de_vries",
    "pde",
    "poisson",
    "schroedinger",
    "wave",
]
