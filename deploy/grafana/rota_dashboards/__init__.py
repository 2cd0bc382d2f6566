"""The Grafana dashboards of Rota, as code. `python -m rota_dashboards DIRECTORY` writes them as JSON.

`blocks` defines how panels look. Each other module defines one dashboard: its queries and their purpose.
"""
