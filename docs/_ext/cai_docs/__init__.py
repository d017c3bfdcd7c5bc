"""Reference pages that are generated from the code they describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cai_docs import commands, offline, public_api, records, settings

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and checks with Sphinx."""
    app.add_directive("public-api", public_api.PublicApi)
    app.add_directive("commands", commands.Commands)
    app.add_directive("settings", settings.Settings)
    app.connect("autodoc-process-signature", records.signature)
    app.connect("env-check-consistency", public_api.check_complete)
    app.connect("build-finished", offline.check_offline)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
