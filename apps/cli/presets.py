"""Known sources of orders: how their files are written and what these leave unsaid."""

from collections.abc import Mapping
from dataclasses import dataclass

from apps.cli.csv_format import Field
from apps.cli.csv_values import DateOrder


@dataclass(frozen=True, slots=True)
class Preset:
    """Defaults for the files of one source; what the user gives comes first."""

    columns: Mapping[Field, str]
    currency: str
    likely_date_order: DateOrder


PRESETS: Mapping[str, Preset] = {
    "online-retail": Preset(
        columns={
            "order": "InvoiceNo",
            "sku": "StockCode",
            "description": "Description",
            "quantity": "Quantity",
            "unit_price": "UnitPrice",
            "placed_at": "InvoiceDate",
            "customer_id": "CustomerID",
            "country": "Country",
        },
        currency="GBP",
        likely_date_order="mdy",
    )
}
