"""Each alert fires on what it is for and on nothing else, as Prometheus itself decides it."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.promtool import promtool
from tests.house.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
INSTANCE = "stage:9400"
pytestmark = pytest.mark.ci


@dataclass(frozen=True, slots=True)
class Case:
    """One alert: series a minute apart that fire it after 30 minutes, and some that do not."""

    alert: str
    fires: Mapping[str, str]
    quiet: Mapping[str, str]
    job: str = "stagegate-stage3"
    # What the alert is about, beside job and instance; without them where it sums over instances.
    labels: Mapping[str, str] = field(default_factory=dict)
    summed: bool = False


S3 = "stagegate_stage3_"
S4 = "stagegate_stage4_"
STAGE4 = "stagegate-stage4"
STEADY = "5+0x60"
ONCE = "0+0x25 1+0x35"
OFTEN = "0+1x60"
CERTIFICATE = 'stagegate_certificate_not_after_timestamp_seconds{certificate="server"}'
CASES = (
    Case("StagegateDown", {"up": "0+0x60"}, {"up": "1+0x60"}),
    Case("StagegateNotReady", {"stagegate_ready": "0+0x60"}, {"stagegate_ready": "1+0x60"}),
    *(
        Case(
            "StagegateHalted",
            {f'{prefix}halted{{reason="{reason}"}}': "0+0x20 1+0x40"},
            {f'{prefix}halted{{reason="{reason}"}}': "0+0x60"},
            job=job,
            labels={"reason": reason},
        )
        for prefix, job, reasons in (
            (S3, "stagegate-stage3", ("clock", "disk", "operator", "seal")),
            (S4, STAGE4, ("clock", "disk", "seal")),
        )
        for reason in reasons
    ),
    Case(
        "StagegateCertificateEnds",
        {CERTIFICATE: f"{13 * 86_400}+0x60"},
        {CERTIFICATE: f"{15 * 86_400}+0x60"},
        labels={"certificate": "server"},
    ),
    Case(
        "StagegateMetricsUnreadable",
        {"stagegate_metrics_unreadable": "1+0x60"},
        {"stagegate_metrics_unreadable": "0+0x60"},
    ),
    Case(
        "StagegateAppendFailed",
        {"stagegate_store_poisoned": "1+0x60"},
        {"stagegate_store_poisoned": "0+0x60"},
    ),
    Case(
        "StagegateAppendFailed",
        {"stagegate_store_append_failures_total": ONCE},
        {"stagegate_store_append_failures_total": STEADY},
    ),
    *(
        Case(
            "StagegateBarrierSlow",
            {f'{name}_bucket{{le="{le}"}}': rate for le, rate in slow.items()},
            {f'{name}_bucket{{le="{le}"}}': OFTEN for le in slow},
            summed=True,
        )
        for name in ("stagegate_store_sync_seconds", "stagegate_store_queue_wait_seconds")
        for slow in ({"1.0": "0+90x60", "2.5": "0+100x60", "+Inf": "0+100x60"},)
    ),
    Case(
        "StagegateDiskFills",
        {"stagegate_store_disk_free_bytes": "1000000000+0x60"},
        {"stagegate_store_disk_free_bytes": "50000000000+0x60"},
    ),
    Case(
        "StagegateDiskFills",
        {"stagegate_store_disk_free_bytes": "50000000000-20000000x60"},
        {"stagegate_store_disk_free_bytes": "50000000000-1000x60"},
    ),
    Case(
        "StagegateStepInDoubt",
        {f"{S3}steps_in_doubt_total": ONCE},
        {f"{S3}steps_in_doubt_total": STEADY},
    ),
    Case(
        "StagegateStepInDoubt",
        {f"{S3}plans_recovered": "1+0x60", "process_start_time_seconds": "1200+0x60"},
        {f"{S3}plans_recovered": "1+0x60", "process_start_time_seconds": "0+0x60"},
    ),
    *(
        Case(
            "StagegateOutcomeUnrecorded",
            {f'{prefix}plans_total{{outcome="unrecorded"}}': ONCE},
            {f'{prefix}plans_total{{outcome="completed"}}': ONCE},
            job=job,
            labels={"outcome": "unrecorded"},
        )
        for prefix, job in ((S3, "stagegate-stage3"), (S4, STAGE4))
    ),
    Case(
        "StagegateOutcomeUnknown",
        {f'{S4}plans_total{{outcome="unknown"}}': ONCE},
        {f'{S4}plans_total{{outcome="failed"}}': ONCE},
        job=STAGE4,
        labels={"outcome": "unknown"},
    ),
    Case(
        "StagegateStage3Unreachable",
        {f'{S4}failures_total{{reason="STAGE3_UNREACHABLE"}}': OFTEN},
        {f'{S4}failures_total{{reason="TOKEN_EXPIRED"}}': OFTEN},
        job=STAGE4,
        labels={"reason": "STAGE3_UNREACHABLE"},
    ),
    Case(
        "StagegateDomainUnreachable",
        {f'{S3}steps_total{{domain="d",method="m",result="DOMAIN_UNREACHABLE"}}': OFTEN},
        {f'{S3}steps_total{{domain="d",method="m",result="DOMAIN_FAILED"}}': OFTEN},
        labels={"domain": "d"},
        summed=True,
    ),
    Case(
        "StagegateCallsAbandoned",
        {f'{S3}calls_abandoned{{domain="d"}}': "4+0x60"},
        {f'{S3}calls_abandoned{{domain="d"}}': "3+0x60"},
        labels={"domain": "d"},
    ),
    Case(
        "StagegateOverloaded",
        {'stagegate_listener_overloaded_total{listener="plans"}': OFTEN},
        {'stagegate_listener_overloaded_total{listener="plans"}': STEADY},
        labels={"listener": "plans"},
        summed=True,
    ),
    Case(
        "StagegateBoundaryViolation",
        {f'{S3}denials_total{{gate="authority_boundary",reason="token_grant"}}': ONCE},
        {f'{S3}denials_total{{gate="scope",reason="domain_not_in_scope"}}': ONCE},
        labels={"reason": "token_grant"},
        summed=True,
    ),
    Case(
        "StagegateDigestMismatch",
        {f'{S3}refusals_total{{reason="DIGEST_MISMATCH"}}': ONCE},
        {f'{S3}refusals_total{{reason="PLAN_INVALID"}}': ONCE},
        labels={"reason": "DIGEST_MISMATCH"},
    ),
    Case(
        "StagegateTokensProbed",
        {f'{S3}denials_total{{gate="token",reason="token_unknown"}}': "0+6x60"},
        {f'{S3}denials_total{{gate="token",reason="token_unknown"}}': "0+4x60"},
        summed=True,
    ),
    *(
        Case("StagegateDenialsSuppressed", {name: OFTEN}, {name: STEADY}, job=job)
        for name, job in (
            (f"{S3}denials_suppressed_total", "stagegate-stage3"),
            (f"{S4}refusals_suppressed_total", STAGE4),
        )
    ),
)


@pytest.fixture(scope="module")
def judge() -> str:
    """Return promtool, or skip loudly."""
    found = promtool()
    if found is None:
        pytest.skip("NO PROMTOOL: alert rules are not judged; install Debian's package prometheus")
    return found


def test_the_rules_are_rules(judge: str) -> None:
    """Syntax and templates."""
    done = run(judge, "check", "rules", str(ALERTS))

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    """An alert that was never seen to fire is none."""
    named = re.findall(r"^ +- alert: (\w+)$", ALERTS.read_text(encoding="utf-8"), re.MULTILINE)

    assert {case.alert for case in CASES} == set(named)


@pytest.mark.parametrize("fires", [True, False], ids=["fires", "quiet"])
@pytest.mark.parametrize(
    "case", CASES, ids=[f"{case.alert}-{number}" for number, case in enumerate(CASES)]
)
def test_it_fires_on_what_it_is_for_and_on_nothing_else(
    judge: str, case: Case, fires: bool, tmp_path: Path
) -> None:
    """After half an hour of these numbers."""
    about = {"job": case.job, **({} if case.summed else {"instance": INSTANCE}), **case.labels}
    numbers = case.fires if fires else case.quiet
    judged = [
        {
            "interval": "1m",
            "input_series": [
                {"series": with_target(name, case.job), "values": values}
                for name, values in numbers.items()
            ],
            "promql_expr_test": [
                {
                    "expr": f'count by (alertname) (ALERTS{{alertstate="firing",'
                    f'alertname="{case.alert}",{matchers(about)}}})',
                    "eval_time": "30m",
                    "exp_samples": [{"labels": f'{{alertname="{case.alert}"}}', "value": 1}]
                    if fires
                    else [],
                }
            ],
        }
    ]
    # What is judged is JSON, which is YAML.
    file = tmp_path / "test.yaml"
    file.write_text(
        json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": judged})
    )

    done = run(judge, "test", "rules", str(file))

    assert done.returncode == 0, done.stdout + done.stderr


def with_target(name: str, job: str) -> str:
    """Return a series as a scrape of this job would have it."""
    bare, _, labels = name.rstrip("}").partition("{")
    return f'{bare}{{job="{job}",instance="{INSTANCE}"{"," if labels else ""}{labels}}}'


def matchers(labels: Mapping[str, str]) -> str:
    """Return labels as a selector has them."""
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


def run(judge: str, *arguments: str) -> Any:
    """Run promtool."""
    return subprocess.run(
        [judge, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
