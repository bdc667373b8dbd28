# SPDX-License-Identifier: GPL-2.0
"""What ``run`` tells those who watch: one collector, served to Prometheus and pushed by OTLP."""
