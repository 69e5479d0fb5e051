"""MovieLens-100K, out of the recbole package, which is read as a folder of data and never imported.

All 100,000 ratings count as interactions, whatever the stars, and no film or user is filtered out: every user has 20
ratings or more, and the 333 films with fewer than five are part of the catalogue that a model must rank.
MovieLens: Harper and Konstan 2015, doi 10.1145/2827872.
"""

from .atomic import read_atomic
from .package_data import check_sha256, package_folder
from .source import Source

__all__ = ["read_movielens"]

REQUIREMENT = "recbole==1.2.1"
SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}


def read_movielens() -> Source:
    """Read MovieLens-100K.

    Raises
    ------
    OptionalDependencyError
        If recbole is not installed.
    FormatError
        If its files are not the published ones.
    """
    folder = package_folder("recbole", requirement=REQUIREMENT) / "dataset_example" / "ml-100k"
    for name, digest in SHA256.items():
        check_sha256(folder / name, digest, requirement=REQUIREMENT)
    return read_atomic(folder)
