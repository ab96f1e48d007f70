"""The tables beside Stage-4's log.

`plans` holds what became of each submission, `caller_log` who may read which entry of the log.
`key_id` names the key that `sealed`, a result, is sealed with. Where a result was erased both are
NULL; where there was none, `sealed` is empty. Deliberately absent: plan documents, parameters,
credentials.
"""

from __future__ import annotations

from typing import Final

from servicekit.store.ledger import Schema
from servicekit.store.outcome_keys import OUTCOME_KEYS

STAGE4_SCHEMA: Final = Schema(
    name="stage4",
    version=2,
    statements=(
        """CREATE TABLE plans (
            number INTEGER PRIMARY KEY,
            plan_id TEXT NOT NULL UNIQUE,
            request_id TEXT NOT NULL,
            caller TEXT NOT NULL,
            user_id TEXT NOT NULL,
            plan_digest BLOB NOT NULL,
            steps INTEGER NOT NULL,
            state TEXT NOT NULL,
            created_us INTEGER NOT NULL,
            ended_us INTEGER,
            reason TEXT NOT NULL DEFAULT '',
            message TEXT NOT NULL DEFAULT '',
            step INTEGER,
            effects TEXT,
            executed_plan_id TEXT NOT NULL DEFAULT '',
            key_id TEXT,
            sealed BLOB DEFAULT x'',
            receipt BLOB NOT NULL DEFAULT x''
        ) STRICT""",
        "CREATE INDEX plans_by_request ON plans (caller, user_id, request_id)",
        "CREATE INDEX plans_by_caller ON plans (caller, number)",
        "CREATE INDEX plans_running ON plans (plan_id) WHERE state = 'running'",
        # Results, by when their time is over.
        "CREATE INDEX plans_with_result ON plans (ended_us) WHERE key_id IS NOT NULL",
        OUTCOME_KEYS,
        """CREATE TABLE caller_log (
            caller TEXT NOT NULL,
            seq INTEGER NOT NULL,
            PRIMARY KEY (caller, seq)
        ) STRICT, WITHOUT ROWID""",
    ),
)
