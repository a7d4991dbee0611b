"""The build step of the wheel: reads the rules once, so that no run of `check` has to."""

import subprocess
import sys
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileRules(BuildHookInterface):
    """Puts the compiled rules into the wheel; an editable install gets them into the checkout."""

    def initialize(self, version, build_data):
        """Write the file before the wheel is packed; the checkout keeps its own."""
        if version == "editable":
            subprocess.run(_PREPARE, check=True, cwd=self.root)
            build_data["artifacts"].append(_NAME)
            return
        self._folder = tempfile.TemporaryDirectory()
        target = Path(self._folder.name, "compiled.bin")
        subprocess.run([*_PREPARE, str(target)], check=True, cwd=self.root)
        build_data["force_include"][str(target)] = _NAME

    def finalize(self, version, build_data, artifact_path):  # noqa: ARG002 - the signature is hatchling's
        """Remove what was packed."""
        if version != "editable":
            self._folder.cleanup()


_NAME = "tcpdoctor/compiled.bin"
_PREPARE = (sys.executable, "-m", "tcpdoctor.cli.prepare")
