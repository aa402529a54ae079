"""Judgement: workers measure, the attestor decides once and reveals."""
