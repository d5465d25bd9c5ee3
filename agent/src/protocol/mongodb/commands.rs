//! Which commands there are (<https://www.mongodb.com/docs/manual/reference/command/>), and, as far as
//! it matters, what their first value is. What is not among them may be anything.
//!
//! Never true here: that a value is taken for a collection's name because it is a text: users and
//! roles are made by commands that begin with their names.

/// What is known of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Of drivers and servers among themselves: handshakes, authentication, heartbeats, sessions.
    Housekeeping,
    /// Its first value is its collection's name.
    Collection,
    /// The same, and this array of it holds statements.
    Statements(&'static str),
    /// This field has its collection's name.
    Field(&'static str),
    /// It has no collection, but statements in this array.
    Several(&'static str),
    /// It has no collection, or none that is known.
    Other,
}

use About::{Collection, Field, Housekeeping, Several, Statements};

/// By name, in the order of its bytes.
const COMMANDS: &[(&str, About)] = &[
    ("_isSelf", Housekeeping),
    ("aggregate", Collection),
    ("analyze", Collection),
    ("authenticate", Housekeeping),
    ("bulkWrite", Several("ops")),
    ("cleanupStructuredEncryptionData", Collection),
    ("cloneCollectionAsCapped", Collection),
    ("collMod", Collection),
    ("collStats", Collection),
    ("compact", Collection),
    ("compactStructuredEncryptionData", Collection),
    ("convertToCapped", Collection),
    ("count", Collection),
    ("create", Collection),
    ("createIndexes", Collection),
    ("createSearchIndexes", Collection),
    ("delete", Statements("deletes")),
    ("deleteIndexes", Collection),
    ("distinct", Collection),
    ("drop", Collection),
    ("dropIndexes", Collection),
    ("dropSearchIndex", Collection),
    ("endSessions", Housekeeping),
    ("find", Collection),
    ("findAndModify", Collection),
    ("findandmodify", Collection),
    ("getMore", Field("collection")),
    ("getnonce", Housekeeping),
    ("hello", Housekeeping),
    ("insert", Collection),
    ("isMaster", Housekeeping),
    ("ismaster", Housekeeping),
    ("killCursors", Collection),
    ("listIndexes", Collection),
    ("logout", Housekeeping),
    ("mapReduce", Collection),
    ("mapreduce", Collection),
    ("ping", Housekeeping),
    ("planCacheClear", Collection),
    ("planCacheClearFilters", Collection),
    ("planCacheListFilters", Collection),
    ("planCacheSetFilter", Collection),
    ("reIndex", Collection),
    ("refreshSessions", Housekeeping),
    ("replSetHeartbeat", Housekeeping),
    ("replSetUpdatePosition", Housekeeping),
    ("saslContinue", Housekeeping),
    ("saslStart", Housekeeping),
    ("update", Statements("updates")),
    ("updateSearchIndex", Collection),
    ("validate", Collection),
];

/// Those of which it does not matter, in the order of their bytes.
#[rustfmt::skip]
const OTHERS: &[&str] = &[
    "abortMoveCollection", "abortReshardCollection", "abortTransaction", "abortUnshardCollection",
    "addShard", "addShardToZone", "analyzeShardKey", "appendOplogNote", "applyOps", "atlasVersion",
    "autoCompact", "availableQueryOptions", "balancerCollectionStatus", "balancerStart",
    "balancerStatus", "balancerStop", "buildInfo", "buildinfo", "checkMetadataConsistency",
    "checkShardingIndex", "cleanupOrphaned", "cleanupReshardCollection", "clearJumboFlag", "clone",
    "commitReshardCollection", "commitShardRemoval", "commitTransaction",
    "configureCollectionBalancing", "configureQueryAnalyzer", "connPoolStats", "connPoolSync",
    "connectionStatus", "coordinateCommitTransaction", "copydb", "createRole", "createUser",
    "currentOp", "cursorInfo", "dataSize", "datasize", "dbHash", "dbStats", "dbhash", "dbstats",
    "driverOIDTest", "dropAllRolesFromDatabase", "dropAllUsersFromDatabase", "dropConnections",
    "dropDatabase", "dropRole", "dropUser", "enableSharding", "eval", "explain", "features",
    "filemd5", "flushRouterConfig", "forceerror", "fsync", "fsyncUnlock", "geoNear", "geoSearch",
    "getAuditConfig", "getChangeStreamState", "getClusterParameter", "getCmdLineOpts",
    "getDefaultRWConcern", "getDiagnosticData", "getFreeMonitoringStatus", "getLastError", "getLog",
    "getParameter", "getPrevError", "getQueryableEncryptionCountInfo", "getShardMap",
    "getShardVersion", "getTransitionToDedicatedConfigServerStatus", "getlasterror", "getpreverror",
    "grantPrivilegesToRole", "grantRolesToRole", "grantRolesToUser", "group", "hostInfo",
    "invalidateUserCache", "isSelf", "isdbgrid", "killAllSessions", "killAllSessionsByPattern",
    "killOp", "killSessions", "listCollections", "listCommands", "listDatabases",
    "listSearchIndexes", "listShards", "lockInfo", "logApplicationMessage", "logRotate",
    "medianKey", "mergeAllChunksOnShard", "mergeChunks", "moveChunk", "moveCollection",
    "movePrimary", "moveRange", "netstat", "oidcListKeys", "oidcRefreshKeys",
    "parallelCollectionScan", "prepareTransaction", "profile", "refineCollectionShardKey",
    "removeQuerySettings", "removeShard", "removeShardFromZone", "renameCollection",
    "repairDatabase", "replSetAbortPrimaryCatchUp", "replSetFreeze", "replSetGetConfig",
    "replSetGetRBID", "replSetGetStatus", "replSetInitiate", "replSetMaintenance",
    "replSetReconfig", "replSetRequestVotes", "replSetResizeOplog", "replSetStepDown",
    "replSetStepDownWithForce", "replSetStepUp", "replSetSyncFrom", "resetError",
    "resetPlacementHistory", "reshardCollection", "revokePrivilegesFromRole", "revokeRolesFromRole",
    "revokeRolesFromUser", "rolesInfo", "rotateCertificates", "serverStatus", "setAllowMigrations",
    "setAuditConfig", "setChangeStreamState", "setClusterParameter", "setDefaultRWConcern",
    "setFeatureCompatibilityVersion", "setFreeMonitoring", "setIndexCommitQuorum", "setParameter",
    "setProfilingFilterGlobally", "setQuerySettings", "setShardVersion", "setUserWriteBlockMode",
    "shardCollection", "shardConnPoolStats", "shardDrainingStatus", "shardingState", "shutdown",
    "split", "splitChunk", "splitVector", "startSession", "startShardDraining", "stopShardDraining",
    "top", "touch", "transitionFromDedicatedConfigServer", "transitionToDedicatedConfigServer",
    "unsetSharding", "unshardCollection", "untrackUnshardedCollection", "updateRole", "updateUser",
    "updateZoneKeyRange", "usersInfo", "validateDBMetadata", "voteAbortIndexBuild",
    "voteCommitIndexBuild", "whatsmysni", "whatsmyuri",
];

/// A command by its name, if there is one.
pub fn known(name: &[u8]) -> Option<(&'static str, About)> {
    if let Ok(at) = COMMANDS.binary_search_by(|(known, _)| known.as_bytes().cmp(name)) {
        return COMMANDS.get(at).copied();
    }
    let at = OTHERS.binary_search_by(|known| known.as_bytes().cmp(name));
    let known = OTHERS.get(at.ok()?)?;
    Some((known, About::Other))
}

/// Longest name that a command has.
pub const MAX_NAME: usize = 64;

/// Whether a name is like those of commands: letters, digits, and what joins them.
pub fn is_plain(name: &[u8]) -> bool {
    let letter = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    matches!(name.first(), Some(first) if !first.is_ascii_digit())
        && name.len() <= MAX_NAME
        && name.iter().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found() {
        assert!(COMMANDS.is_sorted_by_key(|(name, _)| *name));
        for (name, about) in COMMANDS {
            assert_eq!(known(name.as_bytes()), Some((*name, *about)));
            assert!(is_plain(name.as_bytes()), "{name}");
        }
        assert!(OTHERS.is_sorted());
        for name in OTHERS {
            assert_eq!(known(name.as_bytes()), Some((*name, About::Other)));
            assert!(is_plain(name.as_bytes()), "{name}");
        }
        assert_eq!(known(b"findOrders"), None);
        for name in [
            &b""[..],
            b"1",
            b"find orders",
            b"\xff",
            b"$cmd",
            &[b'a'; 65],
        ] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
