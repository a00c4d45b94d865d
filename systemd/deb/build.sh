#!/bin/bash
# Builds the Debian packages of both programs: build.sh PROGRAMS OUT [REVISION]
#   PROGRAMS  folder of the release binaries     OUT  where the packages go     REVISION  of the package, 1
# The same binaries and commit make the same bytes, whoever builds them and when. Needs dpkg-dev and binutils, not root.
set -euo pipefail

programs=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
revision=${3:-1}
cd "$(dirname "$0")/../.."

# The moment that every file carries: the commit's, and outside of a checkout the change notes'.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y agent/CHANGELOG.md)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)-$revision
architecture=$(dpkg --print-architecture)
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fill FILE: the file with its @WORDS@ replaced by what this package has.
fill() {
    sed -e "s|@PACKAGE@|$package|g" -e "s|@USER@|$USER|g" -e "s|@STATE@|$STATE|g" -e "s|@CERTIFICATE@|$CERTIFICATE|g" \
        -e "s|@UNITS@|$UNITS|g" -e "s|@CONFIG@|$CONFIG|g" \
        -e "/@MESSAGE@/{r systemd/deb/$package/message" -e 'd}' "$1"
}

for package in roomtone-agent roomtone-collector; do
    # USER, STATE, CERTIFICATE, CONFIG, UNITS, TEMPLATES; CONFFILE: whether the package brings the config
    . "systemd/deb/$package/variables"
    root=$work/$package
    doc=$root/usr/share/doc/$package
    install -D -m 755 "$programs/$package" "$root/usr/bin/$package"
    strip --strip-all --remove-section=.comment --remove-section=.note "$root/usr/bin/$package"
    for unit in $UNITS $TEMPLATES; do
        install -D -m 644 "systemd/$unit" "$root/usr/lib/systemd/system/$unit"
    done
    install -D -m 644 "systemd/$package.sysusers" "$root/usr/lib/sysusers.d/$package.conf"
    install -D -m 644 "systemd/$package.tmpfiles" "$root/usr/lib/tmpfiles.d/$package.conf"
    # The collector has none: its `init` writes one.
    [ -z "$CONFFILE" ] || install -D -m 644 "systemd/${CONFIG##*/}" "$root$CONFIG"
    install -D -m 644 systemd/deb/copyright "$doc/copyright"
    gzip -9n <README.md >"$doc/README.md.gz"
    gzip -9n <"${package#roomtone-}/CHANGELOG.md" >"$doc/NEWS.md.gz"
    printf '%s (%s) unstable; urgency=medium\n\n  * See NEWS.md.gz.\n\n -- roomtone maintainers <maintainers@roomtone.invalid>  %s\n' \
        "$package" "$version" "$(date -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.Debian.gz"

    # What the binary links, with the versions whose symbols it uses.
    mkdir -p "$work/shlibs/debian"
    printf 'Source: roomtone\n\nPackage: %s\nArchitecture: any\n' "$package" >"$work/shlibs/debian/control"
    depends=$(cd "$work/shlibs" && dpkg-shlibdeps -O "-e$root/usr/bin/$package" | sed 's/^shlibs:Depends=//')

    mkdir "$root/DEBIAN"
    sed -e "s|@VERSION@|$version|" -e "s|@ARCHITECTURE@|$architecture|" -e "s|@DEPENDS@|$depends|" \
        -e "s|@SIZE@|$(du -k -s --apparent-size "$root" | cut -f1)|" "systemd/deb/$package/control" >"$root/DEBIAN/control"
    [ -z "$CONFFILE" ] || echo "$CONFIG" >"$root/DEBIAN/conffiles"
    for script in postinst prerm postrm; do
        fill "systemd/deb/$script" >"$root/DEBIAN/$script"
        chmod 755 "$root/DEBIAN/$script"
    done
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)

    find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    # One thread: xz cuts its blocks by their number.
    dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$root" "$out/${package}_${version}_$architecture.deb" >/dev/null
    echo "$out/${package}_${version}_$architecture.deb"
done
