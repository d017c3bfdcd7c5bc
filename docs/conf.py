"""How the documentation is built: ``sphinx-build -W docs docs/_build``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import cai

project = "cai"
author = "The cai authors"
version = release = cai.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser", "cai_docs"]
exclude_patterns = ["_build", "_ext"]

# A link or a reference that leads nowhere is a warning, and -W makes it an error.
nitpicky = True
# Types of other packages: resolving them would need the network.
nitpick_ignore_regex = [("py:.*", r"(?!cai\.)\w+\..+")]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Attributes as one list: autodoc describes those of a protocol once more.
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"cai {release}"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
