"""A campaign's outcome for machines (JUnit XML) and for a chat (Markdown)."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from devicelab.model.experiment import Finding
from devicelab.model.results import Results
from devicelab.report.clean import markdown_text, printable
from devicelab.report.headline import headline
from devicelab.report.page import written
from devicelab.report.tables import dropped_samples, finding_views

# JUnit's element for a verdict; every other verdict passes.
_TAGS = {
    "fail": "failure",
    "invalid": "error",
    "insufficient n": "skipped",
    "inconclusive": "skipped",
    "cannot tell here": "skipped",
}


def junit(results: Results, findings: Sequence[Finding]) -> bytes:
    """JUnit XML: a test case a finding and a test case a cell.

    ``fail`` is a failure, ``invalid`` an error; ``insufficient n``, ``inconclusive`` and ``cannot tell here`` are
    skipped; every other verdict passes. A cell fails if none of its stored runs is valid.
    """
    suite = ET.Element("testsuite", name=printable(f"devicelab.{results.experiment.name or 'campaign'}"))
    suite.set("hostname", printable(str(results.info.get("device", ""))))
    if results.info.get("started"):
        suite.set("timestamp", str(results.info["started"]))
    properties = ET.SubElement(suite, "properties")
    for name in ("campaign", "device", "board", "os_build", "kernel", "version", "simulated"):
        value = results.campaign if name == "campaign" else results.info.get(name, "")
        ET.SubElement(properties, "property", name=name, value=printable(str(value)))
    if dropped := dropped_samples(results):
        ET.SubElement(properties, "property", name="dropped_samples", value=printable(dropped))
    for finding in findings:
        if finding.answer:
            ET.SubElement(properties, "property", name="answer", value=printable(f"{finding.verdict}: {finding.claim}"))
        _case(suite, finding)
    _cells(suite, results)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(suite.findall("testcase"))))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def markdown(results: Results, findings: Sequence[Finding]) -> str:
    """A short summary for a chat: title, counts, verdicts; texts from a device are escaped."""
    runs = results.runs()
    info = results.info
    simulated = " **(simulated)**" if info.get("simulated") else ""
    title = f"## {markdown_text(results.experiment.name)} on {markdown_text(str(info.get('device', '')))}{simulated}"
    head = headline(results, findings)
    lines = [title, "", f"**{markdown_text(head.sentence)}**", "", markdown_text(results.experiment.question), ""]
    lines += [f"- {markdown_text(caveat)}" for caveat in head.caveats] + [""] * bool(head.caveats)
    if head.todo:
        lines += [markdown_text(head.todo) + (f" `{head.command}`" if head.command else ""), ""]
    invalid = int((~runs["valid"]).sum())
    counts = f"{len(runs)} runs, {invalid} invalid, campaign {markdown_text(results.campaign)}"
    status = str(info.get("status", "complete"))
    lines += [counts + (f", **{markdown_text(status)}**" if status != "complete" else ""), ""]
    if dropped := dropped_samples(results):
        lines += [markdown_text(dropped), ""]
    if findings:
        lines += ["| Verdict | Claim | Estimate | 95 % interval | n |", "|---|---|---|---|---|"]
    for one in finding_views(findings):
        said = f"answer: {one.verdict}" if one.answer else one.verdict
        cells = (f"| **{said}**", *map(markdown_text, (one.claim, one.estimate, one.interval)), f"{one.n} |")
        lines.append(" | ".join(cells))
    return "\n".join(lines).rstrip() + "\n"


def write_junit(results: Results, findings: Sequence[Finding], to: Path) -> Path:
    """``junit`` as a file.

    Raises:
        ConfigError: it cannot be written.
    """
    with written(to) as temporary:
        temporary.write_bytes(junit(results, findings))
    return to


def write_markdown(results: Results, findings: Sequence[Finding], to: Path) -> Path:
    """``markdown`` as a file.

    Raises:
        ConfigError: it cannot be written.
    """
    with written(to) as temporary:
        temporary.write_text(markdown(results, findings), encoding="utf-8")
    return to


def _case(suite: ET.Element, finding: Finding) -> None:
    (view,) = finding_views([finding])
    case = ET.SubElement(suite, "testcase", classname=printable(finding.analysis), name=printable(finding.claim))
    said = [f"verdict: {finding.verdict}", *finding.reasons]
    if view.estimate:
        said.insert(1, f"estimate: {view.estimate} {view.interval} (n = {finding.n})")
    text = printable("\n".join(said))
    tag = _TAGS.get(finding.verdict, "system-out")
    part = ET.SubElement(case, tag)
    if tag != "system-out":
        part.set("message", printable(said[1] if len(said) > 1 else finding.verdict))
    part.text = text


def _cells(suite: ET.Element, results: Results) -> None:
    for cell, runs in results.runs().groupby("cell", sort=False):
        seconds = runs["duration_ns"].sum() / 1e9
        case = ET.SubElement(suite, "testcase", classname="cells", name=printable(str(cell)), time=f"{seconds:.3f}")
        reasons = [f"{flag.code}: {flag.detail}" for flags in runs["flags"] for flag in flags]
        if not runs["valid"].any():
            failure = ET.SubElement(case, "failure", message=f"none of {len(runs)} runs is valid")
            failure.text = printable("\n".join(reasons))
        elif reasons:
            ET.SubElement(case, "system-out").text = printable("\n".join(reasons))
