"""What the list would have asked where a contract or an override priced a call: the saving that finance looks for."""

from __future__ import annotations

from decimal import Decimal

from ledger import money, prices
from ledger.itemised import ItemisedCall
from ledger.meters import METERS, Quantity
from ledger.models import PriceSheet
from ledger.money import EXACT
from ledger.prices import PriceBook
from ledger.rating import Line, Rate, rate

_NEGOTIATED = (PriceSheet.Book.CONTRACT, PriceSheet.Book.OVERRIDE)


class ListPrices:
    """The list book beside all sheets, read once."""

    def __init__(self, sheets: PriceBook) -> None:
        self._sheets = sheets
        self._listed = sheets.of_book(PriceSheet.Book.LIST)

    @classmethod
    def load(cls) -> ListPrices:
        return cls(prices.load())

    def of(self, call: ItemisedCall, line: Line) -> Rate:
        """The list's rate for what `line` charges, under the conditions of `call`; where it has none, the rate charged.

        A call that the list or the seed priced has its list price already. A part that the list does not price apart
        has the list's price of the whole it is part of.
        """
        charged = self._sheets.sheet(call.sheet_id) if call.sheet_id is not None else None
        if charged is None or charged.book not in _NEGOTIATED:
            return line.rate
        listed = self._listed.sheet_at(model_id=call.model_id, at=call.conditions.at)
        rated = rate(
            sheet=listed, meters={line.meter: line.used}, input_total=call.input_total, conditions=call.conditions
        )
        wholes = {line.meter, METERS[line.meter].part_of}
        return next((each.rate for each in rated.lines if each.meter in wholes), line.rate)


def list_cost_usd(listed: Rate, quantity: Quantity) -> Decimal:
    """What `quantity`, as it was billed, costs at a list rate, rounded as a line is."""
    return money.quantize_usd(EXACT.multiply(listed.unit_usd, Decimal(quantity)))
