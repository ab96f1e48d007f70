"""Settings: where a value comes from, and everything that is wrong with it, at once."""

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from servicekit.settings import SettingsRefused, describe_settings, load_settings

FROZEN = ConfigDict(frozen=True, extra="forbid")


class Role(StrEnum):
    """A closed list, as settings have them."""

    ISSUER = "issuer"
    HALTER = "halter"


class Listen(BaseModel):
    """A section."""

    model_config = FROZEN
    plans: str = "127.0.0.1:7403"
    port: Annotated[int, Field(ge=1, le=65_535)] = 7403
    grace_s: float = 10.0
    reflection: bool = False
    cpu: int | None = None


class Settings(BaseModel):
    """What a service would have."""

    model_config = FROZEN
    state: Path
    listen: Listen = Listen()
    roles: dict[str, frozenset[Role]] = Field(default_factory=dict)
    names: tuple[str, ...] = ()
    key: SecretStr | None = None


def load(tmp_path: Path, text: str | None = "", **environ: str) -> Settings:
    """Load from a file with this text, and these variables."""
    file = None
    if text is not None:
        file = tmp_path / "settings.toml"
        file.write_text(text)
    return load_settings(Settings, file=file, environ=environ, env_prefix="STAGE3_")


def problems(tmp_path: Path, text: str | None = "", **environ: str) -> tuple[str, ...]:
    """Load what must be refused, and return the problems without the file's path."""
    with pytest.raises(SettingsRefused) as caught:
        load(tmp_path, text, **environ)
    return tuple(
        problem.replace(str(tmp_path / "settings.toml"), "FILE")
        for problem in caught.value.problems
    )


class TestSources:
    """A file, the environment over it, and the model's own defaults under both."""

    def test_the_environment_wins_over_the_file_and_the_file_over_defaults(
        self, tmp_path: Path
    ) -> None:
        """Each of the three decides one value."""
        settings = load(
            tmp_path,
            'state = "/var/a"\n[listen]\nport = 8000\nplans = "127.0.0.1:1"\n',
            STAGE3_LISTEN__PORT="9000",
        )
        assert settings.listen.port == 9000
        assert settings.listen.plans == "127.0.0.1:1"
        assert settings.listen.grace_s == 10.0

    def test_the_environment_alone_is_enough(self, tmp_path: Path) -> None:
        """Every type a setting has can be written in a variable."""
        settings = load(
            tmp_path,
            None,
            STAGE3_STATE="/var/a",
            STAGE3_LISTEN__REFLECTION="true",
            STAGE3_LISTEN__GRACE_S="2.5",
            STAGE3_LISTEN__CPU="1",
            STAGE3_NAMES='["a", "b"]',
            STAGE3_ROLES__OLGA='["issuer", "halter"]',
            STAGE3_KEY="00042",
        )
        assert settings.state == Path("/var/a")
        assert settings.listen == Listen(reflection=True, grace_s=2.5, cpu=1)
        assert settings.names == ("a", "b")
        assert settings.roles == {"olga": frozenset({Role.ISSUER, Role.HALTER})}
        assert settings.key is not None
        assert settings.key.get_secret_value() == "00042"

    def test_a_whole_section_can_be_one_variable(self, tmp_path: Path) -> None:
        """A section is a TOML table, also when it stands in a variable."""
        settings = load(tmp_path, 'state = "a"', STAGE3_LISTEN="{ port = 5 }")
        assert settings.listen.port == 5

    def test_other_programs_variables_are_not_ours(self, tmp_path: Path) -> None:
        """Only the prefix makes a variable a setting."""
        settings = load(tmp_path, 'state = "a"', STAGE4_NONSENSE="1", PATH="/bin")
        assert settings.state == Path("a")


class TestProblems:
    """What is refused, and how it is told."""

    def test_all_problems_are_told_at_once(self, tmp_path: Path) -> None:
        """One run names a misspelled name, a wrong type, a missing value and two variables."""
        assert problems(
            tmp_path,
            '[listen]\nprot = 1\nplans = 7\nreflection = "yes"\n',
            STAGE3_LISTEN__GRACE="5",
            STAGE3_LISTEN__PORT="many",
        ) == (
            "STAGE3_LISTEN__GRACE: no such setting; did you mean STAGE3_LISTEN__GRACE_S?",
            "FILE: state is required",
            "FILE: listen.plans: input should be a valid string",
            "STAGE3_LISTEN__PORT: listen.port: input should be a valid integer",
            "FILE: listen.reflection: input should be a valid boolean",
            "FILE: listen.prot: no such setting; did you mean port?",
        )

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("STAGE3_STAT", "STAGE3_STAT: no such setting; did you mean STAGE3_STATE?"),
            (
                "STAGE3_LISTEN_PORT",
                "STAGE3_LISTEN_PORT: no such setting; did you mean STAGE3_LISTEN__PORT?",
            ),
            ("STAGE3_ZZZZZZZZ", "STAGE3_ZZZZZZZZ: no such setting"),
            ("STAGE3_STATE__DEEPER", "STAGE3_STATE__DEEPER: state has no settings below it"),
            ("STAGE3_", "STAGE3_: no such setting"),
        ],
    )
    def test_an_unknown_variable_with_the_prefix_is_refused(
        self, tmp_path: Path, name: str, problem: str
    ) -> None:
        """A misspelled variable would leave a default in force that nobody chose."""
        assert problems(tmp_path, 'state = "a"', **{name: "x"}) == (problem,)

    @pytest.mark.parametrize(
        ("name", "text", "problem"),
        [
            ("STAGE3_LISTEN__REFLECTION", "yes", "true or false is expected"),
            ("STAGE3_LISTEN__REFLECTION", "", "true or false is expected"),
            ("STAGE3_LISTEN__GRACE_S", "soon", "a number is expected"),
            ("STAGE3_LISTEN__GRACE_S", "inf", "a number is expected"),
            ("STAGE3_NAMES", "a, b", 'a TOML value such as ["a", "b"] is expected'),
            ("STAGE3_NAMES", '["a"]\nb = 1', 'a TOML value such as ["a", "b"] is expected'),
            ("STAGE3_NAMES", "[" * 9_999, 'a TOML value such as ["a", "b"] is expected'),
            ("STAGE3_LISTEN__PORT", "0", "listen.port: input should be greater than or equal to 1"),
            ("STAGE3_LISTEN__PORT", "1.0", "listen.port: input should be a valid integer"),
        ],
    )
    def test_a_variable_of_the_wrong_type_is_refused(
        self, tmp_path: Path, name: str, text: str, problem: str
    ) -> None:
        """The variable is named, since that is what must be corrected."""
        assert problems(tmp_path, 'state = "a"', **{name: text}) == (f"{name}: {problem}",)

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"state = ", "is not TOML"),
            (b"state = 1\nstate = 2", "is not TOML"),
            (b"state = " + b"[" * 9_999, "is nested too deeply"),
            (b"\xff\xfe", "is not UTF-8"),
            (b"#" * 1_048_577, "longer than 1048576 bytes"),
        ],
    )
    def test_an_unreadable_file_is_refused(
        self, tmp_path: Path, content: bytes, problem: str
    ) -> None:
        """The problem names the file."""
        file = tmp_path / "settings.toml"
        file.write_bytes(content)
        with pytest.raises(SettingsRefused) as caught:
            load_settings(Settings, file=file, environ={}, env_prefix="STAGE3_")
        assert caught.value.problems[0].startswith(f"{file}: {problem}")

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        """A file that was named and is not there is no reason to go on with defaults."""
        with pytest.raises(SettingsRefused, match="there is no such file"):
            load_settings(Settings, file=tmp_path / "absent.toml", environ={}, env_prefix="STAGE3_")

    def test_a_section_that_is_a_value_in_the_file_is_told_as_such(self, tmp_path: Path) -> None:
        """A variable below it cannot be placed."""
        told = problems(tmp_path, 'state = "a"\nlisten = 5\n', STAGE3_LISTEN__PORT="1")
        assert told[0] == "STAGE3_LISTEN__PORT: listen is not a section"

    @pytest.mark.parametrize("text", ['key = ["hunter2"]', 'key = { hunter2 = "hunter2" }'])
    def test_no_problem_quotes_a_value(self, tmp_path: Path, text: str) -> None:
        """A misplaced secret must not end up in an error text."""
        told = problems(tmp_path, f'state = "a"\n{text}\n')
        assert told
        assert not any("hunter2" in problem for problem in told)

    @pytest.mark.parametrize(
        "config", [ConfigDict(frozen=True), ConfigDict(extra="forbid"), ConfigDict()]
    )
    def test_a_model_that_would_take_anything_is_a_defect(self, config: ConfigDict) -> None:
        """Strictness is required of the model and of every section in it."""

        class Loose(BaseModel):
            model_config = config
            value: int = 1

        class Outer(BaseModel):
            model_config = FROZEN
            inner: Loose | None = None

        for model in (Loose, Outer):
            with pytest.raises(TypeError, match="Loose must be frozen"):
                load_settings(model, file=None, environ={}, env_prefix="STAGE3_")


class Wide(BaseModel):
    """Settings of every shape that a variable can have."""

    model_config = FROZEN
    sections: dict[str, Listen] = Field(default_factory=dict)
    limits: Annotated[int, Field(ge=0)] | str = 0
    ratio: float | None = None
    blob: SecretStr = SecretStr("")
    table: dict[str, int] = Field(default_factory=dict)


class TestShapes:
    """Tables with free names, sections inside them, and unions."""

    def load(self, tmp_path: Path, text: str = "", **environ: str) -> Wide:
        """Load the wide settings."""
        file = tmp_path / "settings.toml"
        file.write_text(text)
        return load_settings(Wide, file=file, environ=environ, env_prefix="STAGE3_")

    def test_a_section_under_a_free_name_takes_variables(self, tmp_path: Path) -> None:
        """The name is the variable's, in lower case; what is below it is checked as ever."""
        settings = self.load(
            tmp_path,
            "[sections.front]\nport = 1\n",
            STAGE3_SECTIONS__FRONT__GRACE_S="3",
            STAGE3_TABLE__A="5",
            STAGE3_LIMITS="none",
        )
        assert settings.sections == {"front": Listen(port=1, grace_s=3.0)}
        assert (settings.table, settings.limits) == ({"a": 5}, "none")

    def test_an_unknown_name_below_a_free_name_is_suggested(self, tmp_path: Path) -> None:
        """The suggestion comes from the section, wherever it stands."""
        with pytest.raises(SettingsRefused) as caught:
            self.load(tmp_path, "[sections.front]\nprot = 1\n")
        assert caught.value.problems[0].endswith(
            "sections.front.prot: no such setting; did you mean port?"
        )

    def test_what_is_printed_loads_again(self, tmp_path: Path) -> None:
        """Sections under names that need quotes, numbers that are whole or not."""
        settings = Wide(sections={"a.b": Listen(), "c": Listen(port=2)}, ratio=0.5, limits="x")
        assert self.load(tmp_path, describe_settings(settings)).sections == settings.sections


class TestDescribe:
    """The settings in force, printed."""

    def test_what_is_printed_loads_again_as_the_same_settings(self, tmp_path: Path) -> None:
        """The text is TOML, complete, whatever characters a name or a value holds."""
        settings = Settings(
            state=Path('/var/with "quotes" \\ and \u00e9 \U0001f512 and \x7f and \n'),
            listen=Listen(cpu=1, reflection=True),
            roles={"olga": frozenset({Role.ISSUER}), "o. k.": frozenset()},
            names=("a", "b"),
        )
        text = describe_settings(settings)
        assert load(tmp_path, text) == settings

    def test_a_secret_is_masked(self) -> None:
        """Neither the secret nor its length shows."""
        text = describe_settings(Settings(state=Path("a"), key=SecretStr("hunter2")))
        assert "hunter2" not in text
        assert tomllib.loads(text)["key"] == "**********"

    def test_an_unset_value_is_a_comment(self) -> None:
        """TOML has no null; the name is shown all the same."""
        text = describe_settings(Settings(state=Path("a")))
        assert "# key is not set" in text.splitlines()
        assert "key" not in tomllib.loads(text)
