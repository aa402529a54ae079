"""The other side: trains, pays, makes its reward invoices, uploads, collects."""
