"""Can molecules be walked towards more solubility in fat, or likeness to drugs, through the codes of a small VAE?

    dz/dt = grad f(G(z))  with  f a surrogate of a property that RDKit computes of a molecule, G the decoder

A few thousand molecules are put together from rings and groups, written as SELFIES (every string of which is a
molecule) and learned by a VAE as pictures of one-hot symbols. A surrogate is fitted to the property of these pictures
and climbed through the decoder; success is judged by the property itself, as RDKit computes it of the molecule that
comes out, and by the similarity of the molecules, beside the controls. Writes a table,
molecules.png and molecule_flow.json. Needs `pip install 'pinnflow-pde[molecules]'`. Takes about 80 s.
Run: python examples/molecule_flow.py
     python examples/molecule_flow.py --quick
"""

import argparse
import json
import time
from functools import cache
from itertools import product
from pathlib import Path

import torch

from pinnflow.errors import MissingExtra
from pinnflow.latent import (
    Gain,
    GradientFlow,
    LangevinFlow,
    PotentialFlow,
    Surrogate,
    compare_on_property,
    train_vae,
)
from pinnflow.latent.rendering import images, render

try:
    import selfies
    from rdkit import Chem
    from rdkit.Chem import QED, AllChem, Crippen, DataStructs, Draw
except ImportError as missing:
    raise MissingExtra("rdkit and selfies", "molecules", "The example of molecules") from missing

# A ring with two places, what stands there.
RINGS = (
    "c1cc({a})ccc1{b}",
    "c1cc({a})cnc1{b}",
    "C1CN({a})CCC1{b}",
    "c1sc({a})cc1{b}",
    "C1CC({a})CCC1{b}",
    "c1c({a})oc({b})c1",
)
GROUPS = (
    "C",
    "CC",
    "C(C)C",
    "O",
    "OC",
    "N",
    "NC",
    "F",
    "Cl",
    "C#N",
    "C(=O)O",
    "C(=O)N",
    "C(F)(F)F",
    "CO",
    "CN",
    "CCO",
    "C=C",
)
LINKS = ("", "C", "CC", "OC", "NC", "C(=O)")


# Declare: molecules as pictures of symbols
def assembled(groups=GROUPS):
    """SELFIES of all molecules that can be put together, as lists of symbols."""
    found = {}
    for ring, link, a, b in product(RINGS, LINKS, groups, groups):
        molecule = Chem.MolFromSmiles(ring.format(a=link + a, b=b))
        if molecule is not None:
            found[Chem.MolToSmiles(molecule)] = None
    return [list(selfies.split_selfies(selfies.encoder(smiles))) for smiles in found]


class Alphabet:
    """Between lists of symbols and pictures [1, length, symbols], one-hot."""

    def __init__(self, words):
        self.symbols = ["[nop]", *sorted({symbol for word in words for symbol in word})]
        self.length = max(map(len, words))

    def pictures(self, words):
        x = torch.zeros(len(words), 1, self.length, len(self.symbols))
        for i, word in enumerate(words):
            for j in range(self.length):
                x[i, 0, j, self.symbols.index(word[j]) if j < len(word) else 0] = 1.0
        return x

    def smiles(self, x):
        """The molecules that pictures show, by the largest symbol of each place."""
        rows = x[:, 0].argmax(dim=2).tolist()
        return [decoded("".join(self.symbols[i] for i in row if i > 0)) for row in rows]


decoded = cache(selfies.decoder)


@cache
def measured(smiles):
    """log P, likeness to drugs, and fingerprint."""
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        return 0.0, 0.0, DataStructs.ExplicitBitVect(1024)
    return Crippen.MolLogP(molecule), QED.qed(molecule), FINGERPRINTS.GetFingerprint(molecule)


FINGERPRINTS = AllChem.GetMorganGenerator(radius=2, fpSize=1024)
PROPERTIES = {"log P": 0, "QED": 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("molecule-flow"), help="folder for what is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="short trainings and few walks: to see that it runs")
    asked = parser.parse_args()
    begun = time.process_time()
    asked.output.mkdir(parents=True, exist_ok=True)
    walks, fits, iterations = (30, 30, 200) if asked.quick else (200, 200, 5000)

    words = assembled(GROUPS[:6] if asked.quick else GROUPS)
    alphabet = Alphabet(words)
    x = alphabet.pictures(words)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(asked.seed))
    kept, used = order[: len(x) // 10], order[len(x) // 10 :]
    vae = train_vae(
        x[used], latent_dim=16, architecture="mlp", width=256, beta=0.05, iterations=iterations, seed=asked.seed
    )
    again = alphabet.smiles(render(vae, vae.encode(x[kept])[0]))
    same = sum(a == b for a, b in zip(again, alphabet.smiles(x[kept]))) / len(kept)
    print(
        f"{len(words)} molecules of up to {alphabet.length} of {len(alphabet.symbols)} symbols; "
        f"{100 * same:.0f} % of those kept back come out as they went in; {time.process_time() - begun:.0f} s"
    )

    def molecules(z):
        return alphabet.smiles(render(vae, z))

    def similarity(starts, codes):
        """Tanimoto's, of Morgan fingerprints."""
        pairs = zip(molecules(starts), molecules(codes))
        values = [DataStructs.TanimotoSimilarity(measured(a)[2], measured(b)[2]) for a, b in pairs]
        return torch.tensor(values, dtype=torch.float64)

    # Solve
    found = {"molecules": len(words), "reconstructed": same, "seed": asked.seed, "properties": {}}
    climbed = {}
    for name, which in PROPERTIES.items():

        def value(z, which=which):
            return torch.tensor([measured(smiles)[which] for smiles in molecules(z)], dtype=torch.float64)

        known = torch.tensor([measured(smiles)[which] for smiles in alphabet.smiles(x)], dtype=torch.float64)
        surrogate = Surrogate(x.flatten(1), known, hidden=32, iterations=fits, seed=asked.seed)
        spread = float(surrogate.scale)
        f = lambda z, s=surrogate, spread=spread: s(images(vae, z).flatten(1).double()) / spread  # noqa: E731
        learned = PotentialFlow(
            vae,
            potentials=1,
            pde="wave",
            objectives=[Gain(f)],
            steps=10,
            step_length=0.3,
            seed=asked.seed,
            name="wave potential",
        )
        learned.fit(iterations=20 if asked.quick else 150, batch=32)
        climbed[name] = GradientFlow(f, vae, name="gradient, steps of 0.3")
        flows = [
            (climbed[name], 0.3),
            (GradientFlow(f, vae, rate=0.1, name="gradient"), None),
            (LangevinFlow(f, vae, rate=0.1, temperature=1e-3, prior=0.1, seed=asked.seed, name="langevin"), None),
            (learned, 0.3),
        ]
        table = compare_on_property(
            flows, value, similarity=similarity, control_step=0.3, walks=walks, steps=10, seed=asked.seed + 1
        )
        found["properties"][name] = {"determination": surrogate.determination, "rows": table.to_dict()}
        print(
            f"\n{name}; the surrogate explains {surrogate.determination:.2f} of its variance at molecules kept back"
            f"\n\n{table}"
        )

    # Look: from molecules that were kept back; draws from the prior are stranger than what was learned
    starts = vae.encode(x[kept[:2]])[0]
    drawn, told = [], []
    for name, flow in climbed.items():
        path = flow.traverse(starts, steps=10, step_length=0.3)[::2]
        for walk in path.unbind(dim=1):
            for smiles in molecules(walk):
                drawn.append(Chem.MolFromSmiles(smiles))
                told.append(f"{name} {measured(smiles)[PROPERTIES[name]]:.2f}")
    picture = Draw.MolsToGridImage(drawn, molsPerRow=6, subImgSize=(230, 190), legends=told)
    picture.save(asked.output / "molecules.png")

    # Save
    found["seconds"] = time.process_time() - begun
    (asked.output / "molecule_flow.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"\nwrote {asked.output}/ after {found['seconds']:.0f} s of processor time")


if __name__ == "__main__":
    main()
