//! The memory limit of this process: containers, systemd units and batch systems set one by control groups, which
//! `/proc/meminfo` does not show.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The tightest bound above this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub bytes: u64,
    /// What of it is taken, files that can be read again left out.
    pub used: u64,
}

/// `None` where nothing bounds it.
pub(crate) fn memory_limit() -> Option<Limit> {
    memory_limit_below(Path::new("/"))
}

/// How often the kernel has killed a process of this one's group for memory; 0 where that is not told.
pub(crate) fn memory_kills() -> u64 {
    let groups = groups(Path::new("/"));
    let counts = groups.iter().filter_map(|group| match group.version {
        // The count is of the whole subtree: workers are in the same group or below it.
        CgroupVersion::Two => field(&group.folder.join("memory.events"), "oom_kill"),
        CgroupVersion::One => field(&group.folder.join("memory.oom_control"), "oom_kill"),
    });
    counts.max().unwrap_or(0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CgroupVersion {
    One,
    Two,
}

/// A control group with bounds of memory.
#[derive(Debug)]
struct Group {
    version: CgroupVersion,
    folder: PathBuf,
}

fn memory_limit_below(root: &Path) -> Option<Limit> {
    let groups = groups(root);
    let limits = groups.iter().filter_map(|group| {
        let [most, used] = match group.version {
            CgroupVersion::One => ["memory.limit_in_bytes", "memory.usage_in_bytes"],
            CgroupVersion::Two => ["memory.max", "memory.current"],
        };
        // "max" is no number: no bound.
        let bytes = number(&group.folder.join(most)).filter(|&bytes| bytes < UNBOUNDED)?;
        let used = number(&group.folder.join(used)).unwrap_or(0);
        let files = match group.version {
            CgroupVersion::One => "total_inactive_file",
            CgroupVersion::Two => "inactive_file",
        };
        let files = field(&group.folder.join("memory.stat"), files).unwrap_or(0);
        let used = used.saturating_sub(files);
        Some(Limit { bytes, used })
    });
    limits.min_by_key(|limit| limit.bytes)
}

/// The kernel's word for no bound in version 1 is a number near 2^63, in whole pages.
const UNBOUNDED: u64 = 1 << 60;

/// The groups of this process, from its own to the root of each hierarchy. `root` is where `/proc` and `/sys` are
/// found.
fn groups(root: &Path) -> Vec<Group> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (own, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut groups = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let version = match controllers {
            "" => CgroupVersion::Two,
            _ if controllers.split(',').any(|one| one == "memory") => CgroupVersion::One,
            _ => continue,
        };
        let Some(mount) = mounts.lines().find_map(|line| Mount::read(line, version)) else {
            continue;
        };
        // In a container the mount may begin at the process's group or above it, or the path may be one that only
        // the host knows.
        let below = Path::new(path).strip_prefix(&mount.begins);
        let below = below.unwrap_or(Path::new(""));
        let top = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
        let mut folder = top.join(below);
        if !folder.is_dir() {
            folder.clone_from(&top);
        }
        while folder.starts_with(&top) {
            groups.push(Group {
                version,
                folder: folder.clone(),
            });
            if !folder.pop() {
                break;
            }
        }
    }
    groups
}

/// Where a hierarchy of control groups is mounted.
struct Mount {
    /// The group that the mount shows.
    begins: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// From a line of `/proc/PID/mountinfo`, if it is of this kind.
    fn read(line: &str, version: CgroupVersion) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let fits = match (version, system.next()?) {
            (CgroupVersion::Two, "cgroup2") => true,
            (CgroupVersion::One, "cgroup") => {
                let options = system.nth(1)?;
                options.split(',').any(|option| option == "memory")
            }
            _ => false,
        };
        let mut fields = mount.split(' ').skip(3);
        let (begins, point) = (fields.next()?, fields.next()?);
        fits.then(|| Self {
            begins: unescaped(begins),
            point: unescaped(point),
        })
    }
}

/// Spaces and the like are written as octal numbers there.
fn unescaped(text: &str) -> PathBuf {
    let plain = text.replace("\\040", " ").replace("\\011", "\t");
    PathBuf::from(plain.replace("\\134", "\\"))
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind `name` in a file of lines.
fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine's `/proc` and `/sys`, as far as they matter.
    fn machine(own: &str, mounts: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let fixed = [("proc/self/cgroup", own), ("proc/self/mountinfo", mounts)];
        for (path, text) in fixed.iter().chain(files) {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    const TWO: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_tightest_bound_above_the_process_counts() {
        let machine = machine(
            "0::/user.slice/job.scope\n",
            TWO,
            &[
                ("sys/fs/cgroup/user.slice/memory.max", "4294967296\n"),
                ("sys/fs/cgroup/user.slice/memory.current", "1073741824\n"),
                (
                    "sys/fs/cgroup/user.slice/memory.stat",
                    "anon 5\ninactive_file 73741824\n",
                ),
                ("sys/fs/cgroup/user.slice/job.scope/memory.max", "max\n"),
                ("sys/fs/cgroup/user.slice/job.scope/memory.current", "7\n"),
            ],
        );
        let found = memory_limit_below(machine.path());
        let (bytes, used) = (4 << 30, 1_000_000_000);
        assert_eq!(found, Some(Limit { bytes, used }));
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let files = [("sys/fs/cgroup/memory.max", "536870912\n")];
        for own in ["0::/\n", "0::/docker/0123abc\n"] {
            let machine = machine(own, TWO, &files);
            let found = memory_limit_below(machine.path()).unwrap();
            assert_eq!(found.bytes, 512 << 20, "{own}");
        }
    }

    #[test]
    fn version_1_is_read_with_its_word_for_no_bound() {
        let own =
            "12:cpu,cpuacct:/docker/f00\n9:memory:/docker/f00\n1:name=systemd:/docker/f00\n0::/\n";
        let mounts = "36 32 0:33 /docker/f00 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                      37 32 0:34 /docker/f00 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
        let folder = "sys/fs/cgroup/memory";
        let limit = format!("{folder}/memory.limit_in_bytes");
        let usage = format!("{folder}/memory.usage_in_bytes");
        let bounded = machine(own, mounts, &[(&limit, "2147483648\n"), (&usage, "5\n")]);
        let found = memory_limit_below(bounded.path()).unwrap();
        assert_eq!((found.bytes, found.used), (2 << 30, 5));
        let unbounded = machine(own, mounts, &[(&limit, "9223372036854771712\n")]);
        assert_eq!(memory_limit_below(unbounded.path()), None);
    }

    #[test]
    fn without_control_groups_there_is_no_bound() {
        assert_eq!(memory_limit_below(machine("", "", &[]).path()), None);
        let nonsense = machine("x\n0::\n::::\n", "a b - c\n - cgroup2\n", &[]);
        assert_eq!(memory_limit_below(nonsense.path()), None);
    }
}
