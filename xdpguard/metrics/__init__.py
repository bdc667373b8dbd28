# SPDX-License-Identifier: GPL-2.0
"""The metrics of ``run``: one collector, served to Prometheus and pushed by OTLP."""
