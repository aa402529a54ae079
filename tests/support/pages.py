"""A node's lists in pages, and a look at one entry of them, for fakes that have the lists."""

from collections.abc import AsyncIterator

from l402core.lnd.port import ChannelView, InvoiceView, PaymentView


class Paged:
    """Whatever `list_payments` and `list_invoices` hold, `page` at a time."""

    page = 2

    async def list_payments(self) -> list[PaymentView]:
        """None, unless a fake has some."""
        return []

    async def list_invoices(self) -> list[InvoiceView]:
        """None, unless a fake has some."""
        return []

    async def payment_pages(self) -> AsyncIterator[list[PaymentView]]:
        """All, in pages."""
        views = await self.list_payments()
        for start in range(0, len(views), self.page):
            yield views[start : start + self.page]

    async def invoice_pages(self) -> AsyncIterator[list[InvoiceView]]:
        """All, in pages."""
        views = await self.list_invoices()
        for start in range(0, len(views), self.page):
            yield views[start : start + self.page]

    async def channels(self) -> list[ChannelView]:
        """None, unless a fake has some."""
        return []

    async def closing_channels(self) -> int:
        """None, unless a fake has some."""
        return 0

    async def lookup_payment(self, payment_hash: bytes) -> PaymentView | None:
        """From the list."""
        return next((view for view in await self.list_payments() if view.payment_hash == payment_hash), None)

    async def lookup_invoice(self, payment_hash: bytes) -> InvoiceView | None:
        """From the list."""
        return next((view for view in await self.list_invoices() if view.payment_hash == payment_hash), None)
