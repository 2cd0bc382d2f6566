"""Rota's dashboards for Grafana, as code. `python -m rota_dashboards DIRECTORY` writes them as JSON.

`blocks` owns how panels look; the other modules own one dashboard each: what it asks and why.
"""
