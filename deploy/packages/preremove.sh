#!/bin/sh
# dpkg says "remove" and rpm 0 where it goes for good; on upgrades it runs on.
set -e
if [ -d /run/systemd/system ] && { [ "$1" = remove ] || [ "$1" = 0 ]; }; then
    systemctl disable --now spantap.service
fi
