"""What is mutated, and which tests have to notice, the quick ones first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Target:
    """One module, its quick tests, and those that are asked about what survives them."""

    module: str
    quick: tuple[str, ...]
    slow: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Return the module's file, from the root of the tree."""
        return self.module.replace(".", "/") + ".py"


_GATES: Final = ("tests/unit/stage3/authorization",)
_CATALOGUE_OF_GATES: Final = (
    "tests/test_stage3_phase2a_token_validation_sequence.py",
    "tests/test_stage3_phase2b_domain_method_scope_enforcement.py",
    "tests/test_stage3_phase2c_resource_limit_enforcement.py",
    "tests/component/stage3/execution/test_denials.py",
)
_EXECUTION: Final = (
    "tests/component/stage3/execution",
    "tests/unit/stage3/execution",
    "tests/component/stage3/test_outcomes_at_rest.py",
    "tests/component/stage3/test_retention.py",
)
_STORE: Final = (
    "tests/unit/stage3/store",
    "tests/component/stage3/test_shared_commits.py",
    "tests/component/stage3/test_accepted_definitions.py",
    "tests/component/stage3/test_metrics.py",
    "tests/component/stage3/test_outcomes_at_rest.py",
    "tests/component/stage3/test_retention.py",
    "tests/component/stage3/test_state_check.py",
)
_CATALOGUE_OF_PLANS: Final = (
    "tests/test_stage3_phase2a_token_validation_sequence.py",
    "tests/test_stage3_phase2d_revocation_enforcement.py",
    "tests/test_stage3_phase2c_resource_limit_enforcement.py",
    "tests/test_stage3_phase4b_required_audit_events.py",
    "tests/test_stage3_phase5_minimal_execution_wiring.py",
    "tests/test_stage3_phase7_deterministic_multi_domain_orchestration.py",
    "tests/test_stage3_phase8_explicit_data_flow.py",
)

TARGETS: Final = (
    *(
        Target(f"stage3_service.authorization.{name}", _GATES, _CATALOGUE_OF_GATES)
        for name in (
            "token_gate",
            "scope_gate",
            "limit_gate",
            "data_gate",
            "gate",
            "authority",
            "authorized_step",
            "denial_budget",
        )
    ),
    Target(
        "stage4_service.plan_validator",
        ("tests/unit/stage4/test_validator_order.py", "tests/unit/stage4/test_plan_validator.py"),
        (
            "tests/test_stage4_plan_validation.py",
            "tests/unit/stage3/plan/test_same_verdict_as_stage4.py",
            "tests/house/test_plan_specification.py",
        ),
    ),
    Target(
        "stage3_service.plan.binding_path",
        ("tests/unit/stage3/plan/test_binding_path.py",),
        ("tests/unit/stage3/plan",),
    ),
    Target(
        "stage3_service.plan.bindings",
        ("tests/unit/stage3/plan/test_bindings.py",),
        ("tests/unit/stage3/plan", "tests/test_stage3_phase8_explicit_data_flow.py"),
    ),
    Target("stage3_service.audit.journal", ("tests/unit/stage3/audit",), _EXECUTION),
    *(
        Target(f"stage3_service.store.{name}", _STORE, (*_EXECUTION, *_CATALOGUE_OF_PLANS))
        for name in ("sqlite_journal", "backlog")
    ),
    *(
        Target(f"stage3_service.execution.{name}", _EXECUTION, _CATALOGUE_OF_PLANS)
        for name in ("admit", "start_step", "settle_step", "execute_plan")
    ),
)
