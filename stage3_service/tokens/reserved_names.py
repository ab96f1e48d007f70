"""Names that no token may carry, because they are the machinery's own.

It guards against recursive autonomy: nothing that executes plans may appear as the one who issued
a token, the one it acts for, or the domain it reaches; and no token grants operations on tokens.
A name is reserved when nothing is left of it after removing separators, digits and words that say
only that it is a program, as in `Stage-3`, `executor_2` or `ai.agent.service`. Deliberately absent:
guesses at names that merely contain such a word: `travel_agent` is a profession.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Who plans, schedules, executes or acts by itself, and who is nobody in particular.
_MACHINERY: Final = frozenset(
    {
        *("stage1", "stage2", "stage3", "stage4", "stage5", "stagegate"),
        *("stageone", "stagetwo", "stagethree", "stagefour", "stagefive"),
        *("planner", "planning", "scheduler", "scheduling", "executor", "executioner", "executer"),
        *(
            "orchestrator",
            "orchestration",
            "orchestrater",
            "agent",
            "agents",
            "subagent",
            "agentic",
        ),
        *("planners", "schedulers", "executors", "orchestrators"),
        *("dispatcher", "coordinator", "supervisor", "autopilot", "automaton", "cron", "daemon"),
        *("runner", "worker", "system", "root", "kernel"),
    }
)
# Words that say only what kind of program the machinery is.
_TRIMMINGS: Final = frozenset(
    {
        *("ai", "llm", "ml", "auto", "automatic", "automated", "autonomous", "self", "my", "the"),
        *("internal", "background", "default", "main", "core", "global", "local", "master"),
        *("service", "services", "server", "svc", "srv", "engine", "module", "component", "node"),
        *("process", "thread", "loop", "job", "jobs", "task", "tasks", "plan", "plans", "step"),
        *("execution", "domain", "multi", "bot", "instance", "account", "user", "v"),
    }
)
# The subject of token operations, under any name a domain could give it.
_TOKEN_AUTHORITY: Final = frozenset(
    {
        *("token", "tokens", "capability", "capabilities", "audit", "auditlog", "auditlogs"),
        *("operator", "operators", "authorization", "registry", "issuer", "revoker"),
    }
)
_TOKEN_OPERATIONS: Final = frozenset(
    {
        *("token_grant", "token_request", "token_modify", "token_revoke"),
        *("token_registry_query", "token_enumeration"),
        *("issue_token", "grant_token", "request_token", "modify_token", "revoke_token"),
        *("get_token", "list_tokens", "execute_multi_domain_plan"),
    }
)
_NOT_A_LETTER_OR_DIGIT: Final = re.compile(r"[^a-z0-9]")


def _by_first_letter(words: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the words that can begin where a letter stands."""
    begun: dict[str, tuple[str, ...]] = {}
    for word in sorted(words):
        begun[word[0]] = (*begun.get(word[0], ()), word)
    return begun


# A token's names are asked each time its row is decoded: most words need not be tried.
_TRIMMINGS_BEGUN: Final = _by_first_letter({*_TRIMMINGS, *"0123456789"})
_MACHINERY_BEGUN: Final = _by_first_letter(_MACHINERY)
_AUTHORITY_BEGUN: Final = _by_first_letter(_MACHINERY | _TOKEN_AUTHORITY)


def is_reserved_identity(name: str) -> bool:
    """Return whether a name, of a user or an issuer, belongs to the machinery or its kin."""
    return _consists_of(name, _MACHINERY_BEGUN)


def is_reserved_domain(name: str) -> bool:
    """Return whether a name of a domain belongs to the machinery or to the authority over tokens.

    Domains are declared by the operators; one with such a name could not be granted, so that it
    must not be declared either.
    """
    return _consists_of(name, _AUTHORITY_BEGUN)


def is_token_operation(method: str) -> bool:
    """Return whether a name of a method is that of an operation on tokens, or of the one RPC."""
    return method in _TOKEN_OPERATIONS


def _consists_of(name: str, words: Mapping[str, tuple[str, ...]]) -> bool:
    """Return whether a name is made of trimmings, digits and at least one of `words`.

    Linear in the name for a fixed list: `bare[i]` says that the first i characters are trimmings
    and digits, `made[i]` that they are also at least one word.
    """
    text = _NOT_A_LETTER_OR_DIGIT.sub("", name.lower())
    bare = [True] + [False] * len(text)
    made = [False] * (len(text) + 1)
    for start, character in enumerate(text):
        if not (bare[start] or made[start]):
            continue
        for trimming in _TRIMMINGS_BEGUN.get(character, ()):
            if text.startswith(trimming, start):
                bare[start + len(trimming)] |= bare[start]
                made[start + len(trimming)] |= made[start]
        for word in words.get(character, ()):
            if text.startswith(word, start):
                made[start + len(word)] = True
    return made[-1]
