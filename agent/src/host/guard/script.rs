//! The text of what the guard runs on the host: a POSIX shell script and a unit. Host tools only.

/// Where the script finds things. Only tests use other places than a host's.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) journal: String,
    /// Directory of `registries.yaml`.
    pub(crate) etc: String,
    /// Name of the file in it.
    pub(crate) name: String,
    pub(crate) boot_id: String,
    pub(crate) uptime: String,
}

/// The script. Each line may be the last that runs: started again it ends where one run would have ended. It claims the
/// marker by renaming it, and only a claimed marker makes it act. A marker that cannot be read as ours counts as one of
/// another boot: putting the proven file back is the safe side.
pub(crate) fn script(places: &Places) -> String {
    let Places { journal, etc, name, boot_id, uptime } = places;
    let [journal, etc, name, boot_id, uptime] = [journal, etc, name, boot_id, uptime].map(|text| quote(text));
    format!(
        r#"#!/bin/sh
# Installed by k3s-registry-agent: puts the last proven registries.yaml back if the agent did not say in time that the
# new one works. It never restarts k3s.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin
umask 077
journal={journal}
guard=$journal/guard
previous=$journal/previous
etc={etc}
file=$etc/{name}
tls=$etc/registry-tls
if [ ! -f "$guard/claimed-by-guard" ]; then
  [ -f "$guard/armed" ] || exit 0
  read -r boot deadline <"$guard/armed"
  read -r now <{boot_id}
  read -r up rest <{uptime}
  if [ "$boot" = "$now" ]; then
    [ "${{up%%.*}}" -ge "$deadline" ] || exit 0
  fi
  mv "$guard/armed" "$guard/claimed-by-guard" || exit 0
fi
[ -f "$previous/registries.yaml" ] || [ -f "$previous/absent" ] || exit 1
[ ! -d "$file" ] || exit 1
mkdir -p "$etc" || exit 1
rm -rf "$etc/.registries.guard-new" "$etc/.registries.guard-old" "$etc/.registries.guard"
if [ -L "$tls" ] || [ ! -d "$tls" ]; then
  rm -f "$tls" || exit 1
fi
for kept in "$previous/registry-tls"/* "$previous/registry-tls"/.[!.]*; do
  [ -d "$kept" ] || continue
  host=$tls/${{kept##*/}}
  mkdir -p "$tls" || exit 1
  rm -rf "$tls/.registries.guard-new"
  cp -R "$kept" "$tls/.registries.guard-new" || exit 1
  sync
  if [ -e "$host" ] || [ -L "$host" ]; then
    rm -rf "$tls/.registries.guard-old"
    mv "$host" "$tls/.registries.guard-old" || exit 1
  fi
  mv "$tls/.registries.guard-new" "$host" || exit 1
done
if [ -f "$previous/registries.yaml" ]; then
  cp "$previous/registries.yaml" "$etc/.registries.guard" || exit 1
  sync
  mv -f "$etc/.registries.guard" "$file" || exit 1
else
  rm -f "$file" || exit 1
fi
rm -rf "$tls/.registries.guard-new" "$tls/.registries.guard-old"
# A plain file beside the directories of hosts is an administrator's, and stays.
for host in "$tls"/* "$tls"/.[!.]*; do
  [ -d "$host" ] || [ -L "$host" ] || continue
  [ -d "$previous/registry-tls/${{host##*/}}" ] || rm -rf "$host"
done
rmdir "$tls" 2>/dev/null
sync
cat "$guard/claimed-by-guard" >"$guard/fired.new" || exit 1
mv "$guard/fired.new" "$guard/fired" || exit 1
rm -f "$guard/claimed-by-guard"
sync
"#
    )
}

/// The unit for a reboot. It is wanted by multi-user.target and stands before k3s; k3s does not pull it in, or our own
/// restart would start it.
pub(crate) fn unit(journal: &str, etc: &str, k3s_unit: &str) -> String {
    format!(
        "[Unit]\n\
         Description=Put the last proven registries.yaml back after an interrupted change\n\
         Documentation=file:{journal}/guard/guard.sh\n\
         Before={k3s_unit}\n\
         RequiresMountsFor={journal} {etc}\n\
         ConditionPathExists=|{journal}/guard/armed\n\
         ConditionPathExists=|{journal}/guard/claimed-by-guard\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         TimeoutStartSec=60\n\
         ExecStart=/bin/sh {journal}/guard/guard.sh\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
