"""The gateway as it runs: gunicorn, PostgreSQL, a provider on raw sockets, and the clients that services use."""
