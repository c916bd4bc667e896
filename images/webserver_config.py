"""How people sign in to Airflow: by OpenID Connect where FOREBAY_OIDC_ISSUER is set, else as Airflow's own users."""

import os

from flask_appbuilder.const import AUTH_DB, AUTH_OAUTH

from forebay.workspace_roles import WorkspaceRoles

SECURITY_MANAGER_CLASS = WorkspaceRoles
AUTH_TYPE = AUTH_DB

if os.environ.get("FOREBAY_OIDC_ISSUER"):
    AUTH_TYPE = AUTH_OAUTH
    OAUTH_PROVIDERS = [
        {
            "name": "oidc",
            "icon": "fa-key",
            "token_key": "access_token",
            "remote_app": {
                "server_metadata_url": f"{os.environ['FOREBAY_OIDC_ISSUER'].rstrip('/')}/.well-known/openid-configuration",
                "client_id": os.environ["FOREBAY_OIDC_CLIENT_ID"],
                "client_secret": os.environ["FOREBAY_OIDC_CLIENT_SECRET"],
                "client_kwargs": {"scope": "openid email profile", "code_challenge_method": "S256"},
            },
        }
    ]
    # Who comes the first time is registered; groups are looked at each time. In no group one may sign in and see nothing.
    AUTH_USER_REGISTRATION = True
    AUTH_USER_REGISTRATION_ROLE = "Public"
    AUTH_ROLES_SYNC_AT_LOGIN = True
    _ADMINS = os.environ.get("FOREBAY_OIDC_ADMINS", "forebay-admin").strip("/")
    AUTH_ROLES_MAPPING = {_ADMINS: ["Admin"], f"/{_ADMINS}": ["Admin"]}
