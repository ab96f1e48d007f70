"""The ledger of `examples/domain_service`: what it does, and that its declaration is current."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.domain_service import ledger
from stage3_service.adapters.declarations_file import read_declarations
from stagegate_domain import MethodFailed
from stagegate_domain.declaration import declaration

EXAMPLE = Path(ledger.__file__).parent


@pytest.fixture(autouse=True)
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ledger.Book]:
    """Keep a book of this test's own."""
    monkeypatch.setenv("LEDGER_FILE", str(tmp_path / "ledger.sqlite3"))
    ledger.book.cache_clear()
    yield ledger.book()
    ledger.book().close()
    ledger.book.cache_clear()


def invoke(method: str, parameters: bytes, key: str = "plan-1/0") -> bytes:
    """Run a method as the service would."""
    return ledger.ledger.methods[method].invoke(parameters, key, lambda: 5.0)


def transfer(cents: int = 120, key: str = "plan-1/0") -> bytes:
    """Move cents from cash to rent."""
    return invoke("transfer", b'{"debit":"cash","credit":"rent","cents":%d}' % cents, key)


def test_an_entry_moves_cents() -> None:
    """From one account to the other, and from nowhere else."""
    assert transfer() == b'{"entry":"plan-1/0"}'
    assert invoke("balance", b'{"account":"rent"}') == b'{"cents":120}'
    assert invoke("balance", b'{"account":"cash"}') == b'{"cents":-120}'
    assert invoke("balance", b'{"account":"nobody"}') == b'{"cents":0}'


def test_the_same_key_writes_once_and_answers_the_same() -> None:
    """Fencing: one effect, the first answer."""
    assert transfer() == transfer()
    assert invoke("balance", b'{"account":"rent"}') == b'{"cents":120}'


def test_the_same_key_with_another_entry_is_a_failure() -> None:
    """And the first entry stays as it is."""
    transfer()
    with pytest.raises(MethodFailed, match="another entry"):
        transfer(cents=7)
    assert invoke("balance", b'{"account":"rent"}') == b'{"cents":120}'


def test_the_book_outlives_the_process(book: ledger.Book) -> None:
    """Opened again, it still knows what each key has written."""
    transfer()
    book.close()
    ledger.book.cache_clear()
    assert transfer() == b'{"entry":"plan-1/0"}'
    assert invoke("balance", b'{"account":"rent"}') == b'{"cents":120}'


@pytest.mark.parametrize(
    "parameters",
    [
        b'{"debit":"cash","credit":"cash","cents":1}',
        b'{"debit":"cash","credit":"rent","cents":0}',
        b'{"debit":"cash","credit":"rent","cents":1.5}',
        b'{"debit":"Cash","credit":"rent","cents":1}',
        b'{"debit":"cash","credit":"rent"}',
        b'{"debit":"cash","credit":"rent","cents":1,"note":"x"}',
    ],
)
def test_parameters_that_make_no_entry_write_none(parameters: bytes) -> None:
    """Refused by the schema, or by the method."""
    with pytest.raises(MethodFailed):
        invoke("transfer", parameters)
    assert invoke("balance", b'{"account":"cash"}') == b'{"cents":0}'


def test_an_integer_may_be_spelled_with_a_point() -> None:
    """To JSON Schema 120.0 is an integer, so it is one to the ledger too."""
    invoke("transfer", b'{"debit":"cash","credit":"rent","cents":120.0}')
    assert invoke("balance", b'{"account":"rent"}') == b'{"cents":120}'


def test_the_declaration_beside_it_is_what_it_prints() -> None:
    """The file that a reader copies is current, and Stage-3 takes it."""
    text = (EXAMPLE / "domains.toml").read_text()
    assert text.endswith(declaration(ledger.ledger, "ledger:7411", "ledger.dev.test"))
    (declared,) = read_declarations(EXAMPLE / "domains.toml")
    assert sorted(declared.methods) == ["balance", "transfer"]
