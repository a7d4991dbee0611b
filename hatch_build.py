"""The build step of the wheel: reads the rules once, so that no run of `check` has to."""

import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileRules(BuildHookInterface):
    """Puts the compiled rules into the wheel; an editable install gets them into the checkout."""

    def initialize(self, version, build_data):
        """Write the file before the wheel is packed."""
        target = Path(self.root, "tcpdoctor", "compiled.bin")
        for_checkout = [] if version == "editable" else [str(target)]
        command = [sys.executable, "-m", "tcpdoctor.cli.prepare", *for_checkout]
        subprocess.run(command, check=True, cwd=self.root)
        build_data["artifacts"].append("tcpdoctor/compiled.bin")
