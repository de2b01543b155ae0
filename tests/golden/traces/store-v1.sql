BEGIN TRANSACTION;
CREATE TABLE blobs (
	seq INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	media TEXT NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (seq), 
	UNIQUE (digest)
);
INSERT INTO "blobs" VALUES(1,'sha256:4e5e40d16a7a04480d9a048ddf561018833f17870198a1bd7312ab6373611ffe','json',X'7B226F72636865737472612E6E616D65732E76657273696F6E223A2267656E61692D302E312E302B6F72636865737472612D31222C226F72636865737472612E72756E2E6964223A2232303236303830312D3039333031322D33663963222C22736572766963652E6E616D65223A226F7263686573747261227D');
INSERT INTO "blobs" VALUES(2,'sha256:fb3eb78712d637f5c5de0af099420c985837877a3761ea3f66fe2e246a430069','json',X'22576861742069732032202B20323F22');
INSERT INTO "blobs" VALUES(3,'sha256:2d5cb94a0dc79acbe5cec5e82ab97cb3315d5d389a44bd2df9c32b39657e3cb9','json',X'5B7B227061727473223A5B7B22636F6E74656E74223A22576861742069732032202B20323F222C2274797065223A2274657874227D5D2C22726F6C65223A2275736572227D5D');
INSERT INTO "blobs" VALUES(4,'sha256:c1fc77048d8cf22187a9ef178b55a39c57118a3cc61c575ded8b98801ab28cb2','json',X'5B7B2266696E6973685F726561736F6E223A2273746F70222C227061727473223A5B7B22636F6E74656E74223A2234222C2274797065223A2274657874227D5D2C22726F6C65223A22617373697374616E74227D5D');
INSERT INTO "blobs" VALUES(5,'sha256:ccd41e84067561c9639bc0e1f63933b39e2e6b29e64b2cf6f6f24353bfe7097e','json',X'7B226C6F6770726F6273223A5B2D302E352C2D302E32355D2C2270726F6D7074223A5B312C322C335D2C227265706C79223A5B35322C325D7D');
INSERT INTO "blobs" VALUES(6,'sha256:2bf175f9655e7bb7357b9f0a7c6051465a5ae701104ffe741b98e852c0e4d460','json',X'223422');
INSERT INTO "blobs" VALUES(7,'sha256:0eab4bf99a5105aa7674a0d1062ee9fb13e08e4c499f7f7ccc167b4669f2589e','json',X'7B2274657874223A226B657074227D');
CREATE TABLE cache (
	seq INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	value_hash TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (seq), 
	UNIQUE ("key")
);
INSERT INTO "cache" VALUES(1,'k','completion','sha256:0eab4bf99a5105aa7674a0d1062ee9fb13e08e4c499f7f7ccc167b4669f2589e',1.79538256867423415188e+09);
CREATE TABLE facts (
	seq INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	span_id TEXT, 
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	source TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "facts" VALUES(1,'20260801-093012-3f9c','7eaaa9138108132e','score','1.0','scorer:numeric',1785576613.0);
CREATE TABLE journal (
	seq INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	event TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	request_hash TEXT, 
	reserved_nano BIGINT, 
	reply TEXT, 
	settled_nano BIGINT, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "journal" VALUES(1,'20260801-093012-3f9c','c1','begin','model','h',2000,NULL,NULL,1.79538256867358946801e+09);
INSERT INTO "journal" VALUES(2,'20260801-093012-3f9c','c1','finish','model',NULL,NULL,'{"text":"4"}',1234,1.79538256867402696605e+09);
CREATE TABLE ledger (
	seq INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	ledger TEXT NOT NULL, 
	reservation_id TEXT NOT NULL, 
	event TEXT NOT NULL, 
	nano BIGINT NOT NULL, 
	what TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "ledger" VALUES(1,'20260801-093012-3f9c','run','r1','reserve',2000,'c1',1785576612.1);
INSERT INTO "ledger" VALUES(2,'20260801-093012-3f9c','run','r1','settle',1234,'c1',1785576612.2);
CREATE TABLE orchestra_schema (
	version INTEGER NOT NULL
);
INSERT INTO "orchestra_schema" VALUES(1);
CREATE TABLE runs (
	seq INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	command TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	attributes TEXT NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "runs" VALUES(1,'20260801-093012-3f9c','run',1785576612.0,'{"team":"team.yaml"}');
CREATE TABLE spans (
	seq INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	trace_id TEXT NOT NULL, 
	span_id TEXT NOT NULL, 
	parent_id TEXT, 
	name TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	start_ns BIGINT NOT NULL, 
	end_ns BIGINT NOT NULL, 
	status TEXT NOT NULL, 
	status_message TEXT, 
	attributes TEXT NOT NULL, 
	events TEXT, 
	links TEXT, 
	scope TEXT NOT NULL, 
	resource TEXT, 
	PRIMARY KEY (seq), 
	CONSTRAINT spans_once UNIQUE (run_id, span_id)
);
INSERT INTO "spans" VALUES(1,'20260801-093012-3f9c','a9f4f480b3b5479d920a5877d71589bd','64a0b887318470c5','b8e0fe7ff175b3d6','chat local/m','internal',1795382568673871189,1795382568673954424,'unset',NULL,'{"orchestra.episode.id":"run/t1","orchestra.seat":0,"orchestra.node":"writer","orchestra.round":1,"gen_ai.operation.name":"chat","gen_ai.request.model":"local/m","gen_ai.request.temperature":0.0,"orchestra.sample.index":0,"gen_ai.input.messages":"sha256:2d5cb94a0dc79acbe5cec5e82ab97cb3315d5d389a44bd2df9c32b39657e3cb9","gen_ai.usage.input_tokens":9,"gen_ai.usage.output_tokens":2,"orchestra.paid_nano":1234,"orchestra.list_nano":1234,"orchestra.cached":false,"gen_ai.output.messages":"sha256:c1fc77048d8cf22187a9ef178b55a39c57118a3cc61c575ded8b98801ab28cb2","orchestra.token_ids":"sha256:ccd41e84067561c9639bc0e1f63933b39e2e6b29e64b2cf6f6f24353bfe7097e"}',NULL,NULL,'orchestra','sha256:4e5e40d16a7a04480d9a048ddf561018833f17870198a1bd7312ab6373611ffe');
INSERT INTO "spans" VALUES(2,'20260801-093012-3f9c','a9f4f480b3b5479d920a5877d71589bd','b8e0fe7ff175b3d6','7eaaa9138108132e','invoke_agent writer','internal',1795382568673576016,1795382568674142377,'unset',NULL,'{"orchestra.episode.id":"run/t1","orchestra.seat":0,"gen_ai.operation.name":"invoke_agent","orchestra.node":"writer","orchestra.node.kind":"agent","orchestra.round":1}',NULL,NULL,'orchestra','sha256:4e5e40d16a7a04480d9a048ddf561018833f17870198a1bd7312ab6373611ffe');
INSERT INTO "spans" VALUES(3,'20260801-093012-3f9c','a9f4f480b3b5479d920a5877d71589bd','7eaaa9138108132e',NULL,'invoke_workflow team','internal',1795382568673463808,1795382568674182306,'unset',NULL,'{"gen_ai.operation.name":"invoke_workflow","gen_ai.agent.name":"team","orchestra.episode.id":"run/t1","orchestra.task.id":"t1","orchestra.team.hash":"abc","orchestra.seat":0,"orchestra.task.input":"sha256:fb3eb78712d637f5c5de0af099420c985837877a3761ea3f66fe2e246a430069","orchestra.output":"sha256:2bf175f9655e7bb7357b9f0a7c6051465a5ae701104ffe741b98e852c0e4d460"}',NULL,NULL,'orchestra','sha256:4e5e40d16a7a04480d9a048ddf561018833f17870198a1bd7312ab6373611ffe');
CREATE INDEX ix_runs_run_id ON runs (run_id);
CREATE INDEX facts_span ON facts (run_id, span_id);
CREATE INDEX ix_facts_run_id ON facts (run_id);
CREATE INDEX ix_journal_run_id ON journal (run_id);
CREATE INDEX ix_ledger_run_id ON ledger (run_id);
COMMIT;
