"""Where the pages of other packages are, for links to them, without a network.

Intersphinx asks the sites first. If it cannot, it reads the inventories that this module
writes, which have the names that our pages link to.
"""

import zlib
from pathlib import Path

SITES = {
    "sklearn": "https://scikit-learn.org/stable",
    "torch": "https://docs.pytorch.org/docs/stable",
    "pandas": "https://pandas.pydata.org/docs",
}
# Page of each name, below its site; "$" stands for the name.
PAGES = {
    "sklearn": {
        "modules/generated/$.html": [
            "sklearn.compose.ColumnTransformer",
            "sklearn.pipeline.Pipeline",
            "sklearn.preprocessing.OneHotEncoder",
            "sklearn.utils.Bunch",
        ]
    },
    "torch": {"tensor_attributes.html#torch.device": ["torch.device"]},
    "pandas": {"reference/api/$.html": ["pandas.DataFrame"]},
}


def mapping(folder):
    """Write the inventories, and return what ``intersphinx_mapping`` is."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for package, site in SITES.items():
        lines = [
            f"{name} py:class 1 {page.replace('$', name)} -"
            for page, names in PAGES[package].items()
            for name in names
        ]
        head = (
            f"# Sphinx inventory version 2\n# Project: {package}\n# Version: \n"
            "# The remainder of this file is compressed using zlib.\n"
        )
        path = folder / f"{package}.inv"
        body = zlib.compress("".join(f"{line}\n" for line in lines).encode())
        path.write_bytes(head.encode() + body)
        found[package] = (site, (None, str(path)))
    return found
