BEGIN TRANSACTION;
CREATE TABLE decisions (
            seq INTEGER PRIMARY KEY,
            at REAL NOT NULL,
            tree TEXT NOT NULL,
            name TEXT NOT NULL,
            verdict TEXT NOT NULL CHECK (verdict IN ('admitted', 'waiting', 'refused', 'withdrawn')),
            reason TEXT NOT NULL
        );
INSERT INTO "decisions" VALUES(1,1000.0,'t1','build','admitted','300 MB fit');
CREATE TABLE lineages (
            seq INTEGER PRIMARY KEY,
            boot_id TEXT NOT NULL,
            pid INTEGER NOT NULL,
            start INTEGER NOT NULL,
            host TEXT NOT NULL,
            session TEXT NOT NULL,
            died_at REAL,
            members TEXT NOT NULL,
            UNIQUE (boot_id, pid, start)
        );
INSERT INTO "lineages" VALUES(1,'11111111-2222-3333-4444-555555555555',90,900,'claude-code','5e55',NULL,'[{"pid":300,"start":3000,"above":[[91,910]],"shell_sid":300,"spared":"it listens on a port"}]');
CREATE TABLE reaps (
            seq INTEGER PRIMARY KEY,
            host TEXT NOT NULL,
            session TEXT NOT NULL,
            process TEXT NOT NULL,
            at REAL NOT NULL,
            ended TEXT NOT NULL,
            left_alive TEXT NOT NULL,
            left_running TEXT NOT NULL,
            bytes_freed INTEGER NOT NULL
        , refused TEXT NOT NULL DEFAULT '[]', bytes_source TEXT NOT NULL DEFAULT 'pss', why TEXT NOT NULL DEFAULT '');
INSERT INTO "reaps" VALUES(1,'claude-code','old','{"boot_id":"11111111-2222-3333-4444-555555555555","pid":80,"start":800}',950.0,'[{"pid":5,"start":50,"command":"c","why":"w"}]','[]','[]',7,'[]','pss','');
CREATE TABLE sessions (
            seq INTEGER PRIMARY KEY,
            host TEXT NOT NULL,
            session TEXT NOT NULL,
            boot_id TEXT NOT NULL,
            pid INTEGER NOT NULL,
            start INTEGER NOT NULL,
            cwd TEXT NOT NULL,
            at REAL NOT NULL,
            ended_at REAL,
            UNIQUE (host, session, boot_id, pid, start)
        );
INSERT INTO "sessions" VALUES(1,'claude-code','5e55','11111111-2222-3333-4444-555555555555',90,900,'/srv',900.0,NULL);
CREATE TABLE sweeps (
            seq INTEGER PRIMARY KEY,
            tree TEXT NOT NULL REFERENCES trees (tree) ON DELETE CASCADE,
            at REAL NOT NULL,
            reason TEXT NOT NULL,
            ended INTEGER NOT NULL,
            left_alive TEXT NOT NULL,
            left_running TEXT NOT NULL DEFAULT '[]',
            bytes_freed INTEGER
        );
INSERT INTO "sweeps" VALUES(1,'t5',1007.0,'its shim was killed',3,'[{"pid":7,"start":70,"command":"sleep 9","why":"another user''s"}]','[{"pid":8,"start":80,"command":"x","why":"it listens on a port"}]',5000000);
CREATE TABLE trees (
            seq INTEGER PRIMARY KEY,
            tree TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL CHECK (kind IN ('tree', 'slot', 'shell', 'server')),
            name TEXT NOT NULL,
            klass TEXT,
            owner TEXT NOT NULL,
            argv TEXT NOT NULL,
            cwd TEXT NOT NULL,
            boot_id TEXT NOT NULL,
            parent TEXT,
            in_group TEXT,
            reserved INTEGER NOT NULL,
            limit_bytes INTEGER,
            processes INTEGER,
            rung TEXT NOT NULL,
            cgroups TEXT NOT NULL,
            marker TEXT NOT NULL,
            requester TEXT NOT NULL,
            session TEXT,
            intended_at REAL NOT NULL,
            shim TEXT,
            root TEXT,
            contained_by TEXT,
            why_rung TEXT NOT NULL DEFAULT '',
            started_at REAL,
            ended_at REAL,
            record TEXT
        , group_budget INTEGER, group_parallel INTEGER);
INSERT INTO "trees" VALUES(1,'t1','tree','build','agent','batch:b7','["make","all"]','/srv/project','11111111-2222-3333-4444-555555555555','t0','batch b7',300000000,400000000,64,'cgroup2','{"":"/sys/fs/cgroup/oomless-abcd1234-t1"}','abcd1234:t0/t1','{"boot_id":"11111111-2222-3333-4444-555555555555","pid":100,"start":1000}',NULL,1000.5,'{"boot_id":"11111111-2222-3333-4444-555555555555","pid":200,"start":2000}','{"boot_id":"11111111-2222-3333-4444-555555555555","pid":201,"start":2010}','subreaper','cgroup2: busy',1001.0,NULL,NULL,4000000000,3);
INSERT INTO "trees" VALUES(2,'t2','shell','npm run dev','tool-shell','claude-code:5e55','["bash","-c","npm run dev"]','/srv/project','11111111-2222-3333-4444-555555555555',NULL,NULL,0,NULL,NULL,'subreaper','{}','abcd1234:t2','{"boot_id":"11111111-2222-3333-4444-555555555555","pid":100,"start":1000}','{"owner":{"boot_id":"11111111-2222-3333-4444-555555555555","pid":90,"start":900},"sid":300}',1002.0,NULL,NULL,NULL,'',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "trees" VALUES(3,'t3','slot','slot',NULL,'governor','[]','/srv/project','11111111-2222-3333-4444-555555555555',NULL,NULL,5,NULL,NULL,'','{}','abcd1234:t3','{"boot_id":"11111111-2222-3333-4444-555555555555","pid":100,"start":1000}',NULL,1003.0,NULL,NULL,NULL,'',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "trees" VALUES(4,'t4','tree','done',NULL,'run','["true"]','/srv/project','11111111-2222-3333-4444-555555555555',NULL,NULL,1,NULL,NULL,'subreaper','{}','abcd1234:t4','{"boot_id":"11111111-2222-3333-4444-555555555555","pid":100,"start":1000}',NULL,1004.0,NULL,NULL,NULL,'',NULL,1006.0,'{"schema":"oomless.run/1","tree":"t4","name":"done","status":"killed","exit_code":137,"signal":null,"reason":"","rung":"subreaper","why_rung":"","peak_bytes":5,"peak_source":"pss","bytes_before":null,"bytes_after":null,"limit_bytes":null,"reserved_bytes":1,"seconds":2.0,"survivors":1,"left":[{"pid":7,"start":70,"command":"sleep","why":"uninterruptible"}],"left_running":[{"pid":8,"start":80,"command":"npm run dev","why":"it ignores SIGHUP (nohup)"}],"ended":0,"victim":false,"started_at":1004.5,"private_tmp":null,"escaped":[{"pid":9,"start":90,"command":"x","to":"/other","back":false,"why":"w"}],"attempts":1,"stdout":null,"stderr":null}',NULL,NULL);
INSERT INTO "trees" VALUES(5,'t5','server','flow-nexus',NULL,'claude-code:5e55','["flow-nexus"]','/srv/project','11111111-2222-3333-4444-555555555555',NULL,NULL,0,NULL,NULL,'subreaper','{}','abcd1234:t5','{"boot_id":"11111111-2222-3333-4444-555555555555","pid":100,"start":1000}','{"owner":{"boot_id":"11111111-2222-3333-4444-555555555555","pid":90,"start":900},"sid":300}',1005.0,NULL,NULL,NULL,'',NULL,1007.0,NULL,NULL,NULL);
CREATE INDEX sweeps_tree ON sweeps (tree);
CREATE INDEX trees_open ON trees (seq) WHERE ended_at IS NULL;
CREATE INDEX trees_name ON trees (name);
CREATE INDEX decisions_name ON decisions (name);
CREATE INDEX sessions_open ON sessions (seq) WHERE ended_at IS NULL;
COMMIT;
PRAGMA user_version = 7;
