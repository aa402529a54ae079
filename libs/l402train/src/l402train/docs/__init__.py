"""What is generated into `docs/`: made from the code, checked against it, never edited by hand."""
