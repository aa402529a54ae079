"""Bring a service's database up to date: Alembic, with the migrations that lie in the service's own package."""

from alembic import command
from alembic.config import Config


def upgrade(url: str, package: str) -> None:
    """Run every migration of `package` (its folder `migrations`) that the database has not seen."""
    config = Config()
    config.set_main_option("script_location", f"{package}:migrations")
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, "head")
