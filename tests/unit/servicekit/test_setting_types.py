"""What a setting may be, held for both services at once."""

from pathlib import Path

import pytest

from servicekit.settings import SettingsRefused, load_settings
from stage3_service.settings import Stage3Settings
from stage4_service.settings import Stage4Settings

MODELS: dict[str, type[Stage3Settings | Stage4Settings]] = {
    "STAGE3_": Stage3Settings,
    "STAGE4_": Stage4Settings,
}


@pytest.fixture(params=sorted(MODELS))
def prefix(request: pytest.FixtureRequest) -> str:
    """Return the prefix of each service's variables in turn."""
    return str(request.param)


def load(prefix: str, **variables: str) -> Stage3Settings | Stage4Settings:
    """Load a service's settings from variables alone."""
    required = {
        "STATE_DIR": "/state",
        "OUTCOME_KEY_FILE": "/keys/outcome.keys",
        "TRUST_DOMAIN": "dev.test",
    }
    environ = {**required, **variables}
    return load_settings(
        MODELS[prefix],
        file=None,
        environ={prefix + name: value for name, value in environ.items()},
        env_prefix=prefix,
    )


def test_what_is_required_is_enough(prefix: str) -> None:
    """The control: everything else has a default."""
    assert load(prefix).model_dump()["state_dir"] == Path("/state")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "loud"),
        ("LOG_LEVEL", "INFO"),
        ("TRUST_DOMAIN", "Dev.Test"),
        ("TRUST_DOMAIN", "dev.test/x"),
        ("TRUST_DOMAIN", ""),
        ("PLANS__THREADS", "65"),
        ("PLANS__THREADS", "0"),
        ("LIMITS__MAX_DEPTH", "101"),
        ("LIMITS__MAX_STEPS", "0"),
    ],
)
def test_a_value_that_could_not_work_is_refused_as_a_setting(
    prefix: str, name: str, value: str
) -> None:
    """The one problem names the setting; the service never gets as far as a defect."""
    with pytest.raises(SettingsRefused) as refused:
        load(prefix, **{name: value})
    assert len(refused.value.problems) == 1
    assert name.partition("__")[0].lower() in refused.value.problems[0].lower()


def test_a_bound_tokens_life_is_a_day_at_most() -> None:
    """A setting may shorten what is promised, and not lengthen it."""
    with pytest.raises(SettingsRefused):
        load("STAGE3_", TOKENS__MAX_BOUND_LIFETIME_S="86401")
