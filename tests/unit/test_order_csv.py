"""Orders are read from CSV files as they were meant, or refused with the reason and the line."""

import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import chain
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.cli import presets
from apps.cli.countries import country_code
from apps.cli.csv_format import FIELDS, FormatHints, find_format
from apps.cli.csv_values import DateOrder, DecimalMark, read_number, read_price, read_quantity, read_time
from apps.cli.errors import UsageError
from apps.cli.import_options import format_hints, order_terms
from apps.cli.order_csv import MOST_LINES, OrderFile, OrderTerms, Outcome, Reject, Skipped, read_orders
from apps.cli.rejects_file import RejectsFile
from contracts import OrderCreated
from contracts.orders import OrderContent

HEADER = ["order", "sku", "description", "quantity", "unit_price", "placed_at", "customer_id", "country"]
SAMPLE = Path(presets.__file__).parent / "demo_data" / "online_retail_sample.csv"
CHRISTMAS = datetime(2010, 12, 25, 8, 26, tzinfo=UTC)
TERMS = OrderTerms(source="shop", currency="GBP", timezone=UTC)
DATES: dict[DateOrder, str] = {"ymd": "%Y-%m-%d %H:%M", "mdy": "%m/%d/%Y %H:%M", "dmy": "%d/%m/%Y %H:%M"}

Line = tuple[str, str, str, int, Decimal, datetime, str, str]


def line(
    order: str = "1", sku: str = "A", quantity: int = 1, price: str = "2.50", customer: str = "7"
) -> Line:
    return (order, sku, "Lamp", quantity, Decimal(price), CHRISTMAS, customer, "Germany")


def write(
    path: Path,
    lines: Sequence[Line],
    *,
    delimiter: str = ",",
    decimal: DecimalMark = ".",
    date_order: DateOrder = "ymd",
    encoding: str = "utf-8",
) -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(HEADER)
        for order, sku, description, quantity, price, placed_at, customer, country in lines:
            writer.writerow(
                [
                    order,
                    sku,
                    description,
                    quantity,
                    str(price).replace(".", decimal),
                    placed_at.strftime(DATES[date_order]),
                    customer,
                    country,
                ]
            )
    return path


def text_file(path: Path, *rows: str) -> Path:
    path.write_text("\n".join((",".join(HEADER), *rows)) + "\n", encoding="utf-8")
    return path


def outcomes(path: Path, hints: FormatHints | None = None, terms: OrderTerms = TERMS) -> list[Outcome]:
    return list(read_orders(path, find_format(path, hints or FormatHints()), terms))


def only_reason(path: Path) -> str:
    (outcome,) = outcomes(path, FormatHints(decimal="."))
    assert isinstance(outcome, Reject)
    return outcome.reason


@st.composite
def shop_orders(draw: st.DrawFn) -> list[list[Line]]:
    """Orders by line; descriptions hold what a CSV file must quote."""
    text = st.text("ab ,;\t|\"'é£", max_size=12).map(str.strip)
    orders = []
    for number in range(draw(st.integers(1, 6))):
        placed_at = CHRISTMAS + timedelta(minutes=draw(st.integers(0, 900)))
        orders.append(
            [
                (
                    f"{number:03}",
                    draw(st.sampled_from(["85123A", "71053", "POST"])),
                    draw(text),
                    draw(st.integers(1, 1_000_000)),
                    Decimal(draw(st.integers(0, 10**9))).scaleb(-2),
                    placed_at,
                    "17850",
                    "EIRE",
                )
                for _ in range(draw(st.integers(1, 4)))
            ]
        )
    return orders


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("orders") / "orders.csv"


def by_id(found: list[Outcome]) -> dict[str, OrderCreated]:
    return {str(order.order_id): order for order in found if isinstance(order, OrderCreated)}


@given(orders=shop_orders(), data=st.data())
def test_any_interleaving_gives_the_same_orders(
    file: Path, orders: list[list[Line]], data: st.DataObject
) -> None:
    """An order is whole wherever in the file its lines stand."""
    expected = by_id(outcomes(write(file, list(chain(*orders)))))
    turns = data.draw(st.permutations([number for number, lines in enumerate(orders) for _ in lines]))
    queues = [iter(lines) for lines in orders]

    interleaved = by_id(outcomes(write(file, [next(queues[number]) for number in turns])))

    assert interleaved == expected
    assert len(expected) == len(orders)


@given(
    orders=shop_orders(),
    delimiter=st.sampled_from(",;\t|"),
    decimal=st.sampled_from([".", ","]),
    date_order=st.sampled_from(["ymd", "mdy", "dmy"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_notation_gives_the_same_orders(
    file: Path,
    orders: list[list[Line]],
    delimiter: str,
    decimal: DecimalMark,
    date_order: DateOrder,
    encoding: str,
) -> None:
    """Separator, decimal mark, date order and byte-order mark are found and do not change what is read."""
    lines = list(chain(*orders))
    expected = by_id(outcomes(write(file, lines)))
    write(file, lines, delimiter=delimiter, decimal=decimal, date_order=date_order, encoding=encoding)

    assert by_id(outcomes(file)) == expected
    assert len(expected) == len(orders)


def test_online_retail_sample_is_62_orders_and_4_cancellations() -> None:
    """The real sample is read whole by its preset."""
    found = outcomes(
        SAMPLE,
        format_hints(preset="online-retail"),
        order_terms(preset="online-retail"),
    )

    assert [outcome.reference for outcome in found if isinstance(outcome, Skipped)] == [
        "C536379",
        "C536383",
        "C536391",
        "C536506",
    ]
    orders = {outcome.reference: outcome for outcome in found if isinstance(outcome, OrderCreated)}
    assert len(orders) == 62
    assert orders["536365"].placed_at == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    bare = orders["536414"]
    assert (bare.customer.id, bare.customer.country, bare.lines[0].description) == ("guest", "GB", "")
    assert str(bare.total) == "0.00"


def test_orders_come_in_the_order_of_their_first_lines(tmp_path: Path) -> None:
    """What the shop sold first is sent first."""
    path = write(tmp_path / "orders.csv", [line("9"), line("2"), line("10"), line("2"), line("9")])
    assert [outcome.reference for outcome in outcomes(path)] == ["9", "2", "10"]


def test_preset_yields_to_what_the_file_proves(tmp_path: Path) -> None:
    """A copy of a known file that has its dates the other way round is read as it is."""
    hints = FormatHints(likely_date_order="mdy")
    path = tmp_path / "orders.csv"
    doubtful, proof = "1,A,Lamp,1,2.50,2/1/10,7,", "2,A,Lamp,1,2.50,25/12/10,7,"

    assert find_format(text_file(path, doubtful), hints).date_order == "mdy"
    assert find_format(text_file(path, doubtful, proof), hints).date_order == "dmy"


def test_order_id_depends_on_source_and_reference_only(tmp_path: Path) -> None:
    """The same order from another copy of the file is the same order; from another shop it is not."""
    (one,) = by_id(outcomes(write(tmp_path / "a.csv", [line("1")])))
    (copy,) = by_id(outcomes(write(tmp_path / "b.csv", [line("1", sku="B")], delimiter=";")))
    other_shop = OrderTerms(source="other", currency="GBP", timezone=UTC)
    (other,) = by_id(outcomes(tmp_path / "a.csv", terms=other_shop))

    assert one == copy
    assert one != other


def test_100_000_lines_need_little_memory(tmp_path: Path) -> None:
    """Memory, SQLite's too, stays bounded for a large file with scattered orders, one of them huge."""
    path = tmp_path / "large.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(HEADER) + "\n")
        for number in range(100_000):
            order = "huge" if number % 4 == 0 else number % 20_000
            file.write(f"{order},A,Lamp,1,2.50,2010-12-25 08:26,7,Germany\n")

    # A process of its own: the peak of this one is not the import's.
    script = Path(__file__).with_name("peak_memory_of_import.py")
    measured = subprocess.run(  # noqa: S603 our own script
        [sys.executable, script, path],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )

    outcomes_counted, growth_kilobytes = map(int, measured.stdout.split())
    assert outcomes_counted == 15_001
    assert growth_kilobytes < 15_000


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,A,Lamp,-1,2.50,2010-12-25,7,", "line 2: quantity: Input should be greater than or equal to 1"),
        ("1,A,Lamp,1.5,2.50,2010-12-25,7,", "line 2: '1.5' is not a whole number"),
        ("1,A,Lamp,1,0.001,2010-12-25,7,", "line 2: '0.001' has more than the 2 decimals of GBP"),
        ("1,A,Lamp,1,free,2010-12-25,7,", "line 2: 'free' is not a number with a decimal point"),
        ("1,A,Lamp,1,-2.50,2010-12-25,7,", "line 2: unit_price: Input should be greater than or equal to 0"),
        ("1,,Lamp,1,2.50,2010-12-25,7,", "line 2: sku: String should have at least 1 character"),
        ("1,A,Lamp,1,2.50,2010-02-30,7,", "line 2: '2010-02-30' is not a date in the order year, month, day"),
        ("1,A,Lamp,1,2.50,2010-12-25", "line 2: 6 cells where the header has 8"),
        (",A,Lamp,1,2.50,2010-12-25,7,", "no order number"),
    ],
)
def test_reject_names_reason_and_line(tmp_path: Path, row: str, reason: str) -> None:
    """Whatever breaks the contract is refused in words that lead to the cell."""
    assert only_reason(text_file(tmp_path / "orders.csv", row)) == reason


def test_one_bad_line_refuses_the_whole_order_only(tmp_path: Path) -> None:
    """An order is sent whole or not at all, and its neighbours are sent."""
    path = write(tmp_path / "orders.csv", [line("1"), line("2"), line("1", quantity=-4)])

    refused, sent = outcomes(path)

    assert isinstance(refused, Reject)
    assert refused.reason == "line 4: quantity: Input should be greater than or equal to 1"
    assert isinstance(sent, OrderCreated)


def test_order_beyond_the_contract_is_refused(tmp_path: Path) -> None:
    """The longest order is the contract's longest."""
    (longest,) = outcomes(write(tmp_path / "orders.csv", [line()] * MOST_LINES))
    assert isinstance(longest, OrderCreated)
    assert (
        only_reason(write(tmp_path / "orders.csv", [line()] * (MOST_LINES + 1)))
        == "1,001 lines, more than 1,000"
    )
    assert any(
        getattr(rule, "max_length", 0) == MOST_LINES for rule in OrderContent.model_fields["lines"].metadata
    )


def test_two_customers_in_one_order_are_refused(tmp_path: Path) -> None:
    """Nobody is billed for another's lines."""
    path = write(tmp_path / "orders.csv", [line(customer="7"), line(customer=""), line(customer="8")])
    assert only_reason(path) == "lines name different customers: 7, 8"


def test_cancellations_are_skipped_unless_the_prefix_is_the_shops_own(tmp_path: Path) -> None:
    """A shop whose order numbers begin with C can import them."""
    path = write(tmp_path / "orders.csv", [line("C1")])
    own_prefix = OrderTerms(source="shop", currency="GBP", timezone=UTC, cancellation_prefix="")

    assert outcomes(path) == [Skipped("C1", "cancellation (number begins with C)")]
    assert isinstance(outcomes(path, terms=own_prefix)[0], OrderCreated)


def test_mended_rejects_are_the_orders_that_were_meant(tmp_path: Path) -> None:
    """The rejects file is imported like its source, and keeps its form until it is mended."""
    source = write(
        tmp_path / "orders.csv",
        [line("1"), line("2", quantity=-3), line("3"), line("2", sku="B")],
        delimiter=";",
        decimal=",",
        encoding="utf-8-sig",
    )
    rejected = tmp_path / "orders.rejects.csv"
    again = tmp_path / "orders.rejects.rejects.csv"
    for path, target in ((source, rejected), (rejected, again)):
        csv_format = find_format(path, FormatHints())
        with OrderFile(path, csv_format, TERMS) as orders, RejectsFile(target, csv_format) as rejects:
            for outcome in orders:
                if isinstance(outcome, Reject):
                    rejects.add(outcome)

    lines = rejected.read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].startswith("rejected_because;rejected_line;order;sku;")
    assert [row.split(";")[1] for row in lines[1:]] == ["3", "5"]
    assert again.read_text(encoding="utf-8-sig").splitlines()[0] == lines[0]

    rejected.write_text(rejected.read_text(encoding="utf-8-sig").replace(";-3;", ";3;"), encoding="utf-8-sig")
    (mended,) = outcomes(rejected)
    (meant,) = outcomes(write(tmp_path / "meant.csv", [line("2", quantity=3), line("2", sku="B")]))
    assert mended == meant


def test_no_rejects_no_file(tmp_path: Path) -> None:
    """A rejects file appears only when there is something to mend."""
    source = write(tmp_path / "orders.csv", [line()])
    with RejectsFile(tmp_path / "rejects.csv", find_format(source, FormatHints())):
        pass
    assert not (tmp_path / "rejects.csv").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: the first line must name the columns"),
        (b"order,sku,quantity,unit_price\n", "has no column 'placed_at' for placed_at"),
        (b"order,order,sku,quantity,unit_price,placed_at\n", "has several columns 'order'"),
        (
            b"order,sku,quantity,unit_price,placed_at\n1,A,1,2.5,12/1/10\n",
            "give --date-order mdy or --date-order dmy",
        ),
        (
            b"order,sku,quantity,unit_price,placed_at\n1,A,1,2.5,12/25/10\n1,A,1,2.5,25/12/10\n",
            "more than one way",
        ),
        (
            b"order;sku;quantity;unit_price;placed_at\n1;A;1;1,234;2010-12-25\n",
            "line 2: '1,234' can be read in more",
        ),
        (
            b"order,sku,quantity,unit_price,placed_at\n\n1,\xa3,1,2.5,2010-12-25\n",
            "line 3: byte 0xa3 is not utf-8",
        ),
        (
            b'order,sku,quantity,unit_price,placed_at\n1,"A,1,2.5,2010-12-25\n',
            "line 2: a quotation mark is not closed",
        ),
        (
            b'order,sku,quantity,unit_price,placed_at\n1,"A,1,2,2010-12-25\n2,B,1,2,2010-12-25\n3,C",1,2,2010-12-25\n',
            "line 2: a quotation mark opened here closes only in line 4 and swallows rows",
        ),
    ],
)
def test_file_that_cannot_be_read_is_named_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """A file that is broken or can be read in two ways is a question, never a guess or a traceback."""
    path = tmp_path / "orders.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        outcomes(path)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)


def test_given_encoding_and_columns_count(tmp_path: Path) -> None:
    """What the user says of the file is taken as said."""
    path = tmp_path / "orders.csv"
    path.write_bytes(
        b"Nr,Article,Title,Units,Each,When,Mail\n1,A,Caf\xe9 \xa32,6.0,2,10/11/2010,a@b.example\n"
    )
    columns = ["order=Nr", "sku=Article", "description=Title", "quantity=Units", "unit_price=Each"]
    hints = format_hints(
        columns=[*columns, "placed_at=When", "email=Mail"], encoding="cp1252", date_order="dmy"
    )

    (order,) = outcomes(path, hints)

    assert isinstance(order, OrderCreated)
    assert (order.lines[0].description, order.lines[0].quantity, str(order.total)) == ("Café £2", 6, "12.00")
    assert (order.placed_at, order.customer.email) == (datetime(2010, 11, 10, tzinfo=UTC), "a@b.example")


def test_cells_may_hold_lines(tmp_path: Path) -> None:
    """A quoted line break is part of a cell, and the lines after it keep their numbers."""
    path = text_file(
        tmp_path / "orders.csv",
        '1,A,"Lamp,\nround",1,2.50,2010-12-25,7,',
        "2,A,Lamp,0,2.50,2010-12-25,7,",
    )
    kept, refused = outcomes(path)
    assert isinstance(kept, OrderCreated)
    assert kept.lines[0].description == "Lamp,\nround"
    assert isinstance(refused, Reject)
    assert refused.reason.startswith("line 4: quantity")


@pytest.mark.parametrize(
    ("text", "order", "zone", "moment"),
    [
        ("12/1/10 8:26", "mdy", UTC, datetime(2010, 12, 1, 8, 26, tzinfo=UTC)),
        ("12/1/10 8:26", "dmy", UTC, datetime(2010, 1, 12, 8, 26, tzinfo=UTC)),
        ("01.12.2010 20:26:07", "dmy", UTC, datetime(2010, 12, 1, 20, 26, 7, tzinfo=UTC)),
        ("12/1/2010 12:05 AM", "mdy", UTC, datetime(2010, 12, 1, 0, 5, tzinfo=UTC)),
        ("2010-12-01T08:26:00.5Z", "dmy", UTC, datetime(2010, 12, 1, 8, 26, 0, 500_000, tzinfo=UTC)),
        ("2010-12-01T08:26:00-03:30", "ymd", UTC, datetime(2010, 12, 1, 11, 56, tzinfo=UTC)),
        ("2010-07-01 08:26", "ymd", ZoneInfo("Europe/London"), datetime(2010, 7, 1, 7, 26, tzinfo=UTC)),
    ],
)
def test_times(text: str, order: DateOrder, zone: tzinfo, moment: datetime) -> None:
    """Times are read in the order and zone that hold for the file, unless they say more themselves."""
    assert read_time(text, order, zone) == moment


@pytest.mark.parametrize(
    "text", ["", "soon", "2010-13-01", "1/2/345", "0001-01-01 00:00+14:00", "1/2/10 13:00 PM"]
)
def test_what_is_no_time(text: str) -> None:
    """Nothing else is taken for a time."""
    with pytest.raises(ValueError, match="is not a date in the order"):
        read_time(text, "mdy", UTC)


@given(st.decimals(0, 10**12, places=2), st.sampled_from([".", ","]))
def test_numbers_keep_every_digit(number: Decimal, mark: DecimalMark) -> None:
    """With thousands grouped or not, a number is read back exactly."""
    grouped = f"{number:,}".replace(",", " ").replace(".", mark).replace(" ", "," if mark == "." else ".")
    assert read_number(grouped, mark) == read_number(str(number).replace(".", mark), mark) == number


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (lambda text: read_quantity(text, "."), "1,23"),
        (lambda text: read_quantity(text, "."), "٣"),
        (lambda text: read_price(text, ".", "GBP"), "1e3"),
        (lambda text: read_price(text, ".", "GBP"), "NaN"),
        (lambda text: read_price(text, ".", "JPY"), "2.5"),
        (lambda text: read_price(text, ",", "GBP"), "2.5"),
    ],
)
def test_what_is_no_amount(read: Callable[[str], object], text: str) -> None:
    """A number in another notation is refused rather than read as something near it."""
    with pytest.raises(ValueError, match=text):
        read(text)


def test_prices_take_the_currencys_decimals() -> None:
    """Padding and dropping zeros is exact, so it is no rounding."""
    assert [str(read_price("2.1", ".", code)) for code in ("GBP", "KWD")] == ["2.10", "2.100"]
    assert str(read_price("2.0", ".", "JPY")) == "2"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("United Kingdom", "GB"),
        ("EIRE", "IE"),
        ("RSA", "ZA"),
        ("USA", "US"),
        ("Czech Republic", "CZ"),
        ("br", "BR"),
        ("Channel Islands", None),
        ("European Community", None),
        ("Unspecified", None),
        ("", None),
    ],
)
def test_countries(name: str, code: str | None) -> None:
    """A country is known by its English name, its code or the data's own spelling, else left out."""
    assert country_code(name) == code


def test_every_field_can_be_mapped() -> None:
    """The fields of the command are those of the contract."""
    assert set(format_hints(columns=[f"{name}=X" for name in FIELDS]).columns) == set(FIELDS)
