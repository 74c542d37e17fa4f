"""`spatialme doctor`: what this machine has, what it lacks, and what speed to expect of it."""

from __future__ import annotations

import dataclasses
import json as json_format
from dataclasses import dataclass

from spatialme.doctor_checks import Finding

EXIT_BROKEN = 1


@dataclass(frozen=True)
class DoctorReport:
    """All findings, in the order of the checks."""

    findings: list[Finding]
    as_json: bool = False

    @property
    def works(self) -> bool:
        """Whether `convert` can work here."""
        return all(finding.state != "broken" for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return 0 if self.works else EXIT_BROKEN

    def lines(self) -> list[str]:
        """One line per finding, or all of them as JSON."""
        if self.as_json:
            findings = [dataclasses.asdict(finding) for finding in self.findings]
            return json_format.dumps({"works": self.works, "findings": findings}, indent=2).splitlines()
        width = max(len(finding.subject) for finding in self.findings)
        verdict = "convert works here" if self.works else "convert cannot work here: see what is marked broken"
        return [*(f"{each.state:7}  {each.subject:{width}}  {each.text}" for each in self.findings), verdict]


def doctor(*, json: bool = False, device: str = "auto", skip_speed: bool = False) -> DoctorReport:
    """Tell what this machine has for spatialme, what is missing and what it would add, and what speed to expect.

    Args:
        json: Print JSON for programs instead of lines for people.
        device: Where the speed is measured: auto, cpu, cuda or cuda:N.
        skip_speed: Leave out the measurement, which takes some seconds.

    Returns:
        The findings; the command's exit code is 1 if `convert` cannot work here.
    """
    from spatialme import doctor_checks

    findings = [finding for check in doctor_checks.CHECKS for finding in check()]
    report = DoctorReport(findings, json)
    if skip_speed or not report.works:
        return report
    from spatialme.doctor_speed import check_speed

    return DoctorReport([*findings, *check_speed(device)], json)
