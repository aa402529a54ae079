"""What the services' configurations share, a part for each need: read from the environment, every field described.

It refuses values outside their bounds before anything starts. Whatever variable NAME there is, NAME_FILE may name a file
that holds its value: secrets and addresses that are mounted.
"""

import os
from pathlib import Path
from typing import Any, Final

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

IN_FILE: Final = "_FILE"
VALUE_MAX_BYTES: Final = 1 << 16


class MountedValues(PydanticBaseSettingsSource):
    """Values of fields from the files that the environment names. Raises SettingsError for one that cannot be read."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = f"{self.config.get('env_prefix', '')}{field_name}{IN_FILE}".upper()
        path = os.environ.get(variable)
        if path is None:
            return None, field_name, False
        try:
            with Path(path).open("rb") as file:
                return file.read(VALUE_MAX_BYTES).decode().strip(), field_name, self.field_is_complex(field)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{variable} names {path}, which cannot be read: {error}") from error

    def __call__(self) -> dict[str, Any]:
        told = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, is_complex = self.get_field_value(field, name)
            value = self.prepare_field_value(name, field, value, is_complex)
            if value is not None:
                told[key] = value
        return told


class ServiceConfig(BaseSettings):
    """Fields that every service has. The environment prefix names the service, e.g. `L402_SETTLER_NATS_URL`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A variable itself comes before the file that another names."""
        return init_settings, env_settings, MountedValues(settings_cls)

    data_dir: Path = Field(default=Path(".l402-train"), description="Folder for this service's own files.")
    trace_file: Path | None = Field(
        default=None, description="File for spans when OTEL_EXPORTER_OTLP_ENDPOINT is not set; none: spans are dropped."
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Lowest level that is logged."
    )


class BusConfig(BaseSettings):
    """Where a service hears and says events."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="NATS server with JetStream.", repr=False)


class ObjectsConfig(BaseSettings):
    """Where a service finds what is too large for a message."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    objects_url: str = Field(
        default="file://.l402-train/objects",
        description="Object store for payloads and checkpoints: file://FOLDER, or s3://BUCKET/PREFIX with the AWS_* variables.",
    )


class HttpConfig(BaseSettings):
    """Where a service listens."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    http_host: str = Field(default="127.0.0.1", description="Address that the service's HTTP listens on.")
    http_port: int = Field(default=0, ge=0, le=65535, description="Port for HTTP (health, API); 0: any free one.")


class LndConfig(BaseSettings):
    """How a service that may talk to LND reaches its node, with a macaroon of its own."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    lnd_host: str = Field(default="127.0.0.1:10009", description="LND's gRPC address.")
    lnd_tls_cert: Path = Field(default=Path("tls.cert"), description="LND's TLS certificate.")
    lnd_macaroon: Path = Field(default=Path("admin.macaroon"), description="The macaroon baked for this service.")
    lnd_macaroon_excess: tuple[str, ...] = Field(
        default=(),
        description="JSON list of permissions beyond this service's own that its macaroon may have all the same, "
        'such as ["info:read"]; with any other it does not start.',
    )
    lnd_network: str = Field(default="simnet", description="The network LND must be on.")
