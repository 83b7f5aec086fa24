#!/bin/sh
# The role's password is the secret that Rowbridge gets too. The demo's superuser has the same one.
set -eu
psql --set=ON_ERROR_STOP=1 --username=postgres --dbname=tickets --set=password="$(cat /run/secrets/bridge_password)" <<'SQL'
ALTER ROLE rowbridge PASSWORD :'password';
SQL
