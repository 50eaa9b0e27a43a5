//! Which texts are paths of nodes.

/// The tree's root.
pub(super) const ROOT: &str = "/";

/// Below which ZooKeeper keeps what is its own.
pub(super) const OWN: &str = "/zookeeper";

/// The paths of ZooKeeper's own that exist in every tree and cannot be deleted; parents first.
pub(super) const BUILT_IN: [&str; 4] = [ROOT, OWN, CONFIG, "/zookeeper/quota"];

/// Where ZooKeeper tells who votes: everyone may read it, and nobody write it.
pub(super) const CONFIG: &str = "/zookeeper/config";

/// Splits a path into its parent's path and its own name; `None` where there is no slash.
///
/// It does not say that either part is valid: the parent of `//a` is the root.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    Some((if parent.is_empty() { ROOT } else { parent }, name))
}

/// The path, its parent's, and so on to the root.
pub(super) fn upwards(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |&path| {
        split(path).map(|(parent, _)| parent).filter(|_| path != ROOT)
    })
}

/// Whether ZooKeeper takes this path: absolute, no empty component, no `.` or `..`, no trailing
/// slash, and none of the control and private characters that it refuses.
#[must_use]
pub fn is_valid(path: &str) -> bool {
    if path == ROOT {
        return true;
    }
    let Some(components) = path.strip_prefix('/') else { return false };
    components.split('/').all(|name| !matches!(name, "" | "." | ".."))
        && !path.chars().any(is_refused)
}

fn is_refused(c: char) -> bool {
    matches!(
        c,
        // From fff0 on: ZooKeeper looks at UTF-16 units and refuses all surrogates.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_zookeepers() {
        for good in ["/", "/a", "/a/b-c_d.e", "/a/...", "/ö/<default>", "/a b"] {
            assert!(is_valid(good), "{good:?}");
        }
        for bad in ["", "a", "a/b", "/a/", "//", "//a", "/a//b", "/.", "/a/..", "/a/./b", "/a\0b"] {
            assert!(!is_valid(bad), "{bad:?}");
        }
        for bad in ["/\u{1}", "/a\u{1f}", "/\u{7f}", "/\u{9f}", "/\u{e000}", "/\u{ffff}", "/🦦"] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn upwards_ends_at_the_root() {
        assert_eq!(upwards("/a/b").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert_eq!(upwards("/").collect::<Vec<_>>(), ["/"]);
        assert_eq!(upwards("a").collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_path_splits_at_its_last_slash() {
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("a/b"), Some(("a", "b")));
        assert_eq!(split("//a"), Some(("/", "a")));
        assert_eq!(split("ab"), None);
    }
}
