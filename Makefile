# Two commands matter: `make demo` and `make test`. Everything else is for those who change the code.
# Needs: Python 3.11+, make, and Node.js with npm for the local chain (without it those steps say so).
PY      ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.stamp
NPM_DIR := policy/localnet
export DO_NOT_TRACK = 1
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export MLFLOW_DISABLE_TELEMETRY = true
export PYTHONDONTWRITEBYTECODE =# empty: modules are compiled once, not again by every process that starts

# every name below is a command, none is a file
.PHONY: search chains order-kills auctions heads keeper-kills oddities demo test test-fast lint format lock env npm bench fuzz kills files matrix matrix-chains replay sandwich audit attacks suspects ops pictures growth mirrored realtime pruned nodefuzz stolenkey conformance enzyme lagoon flows

env: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PY) -m venv $(VENV)
	@echo "installing the locked environment into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==0.13.8
	@$(BIN)/uv pip sync -q --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m ensurepip -q >/dev/null 2>&1 || true
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

lock: ## rewrite the lock file (no hosts in it) after changing pyproject.toml
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  -c constraints.txt -p 3.11 --all-extras pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --no-annotate -c constraints.txt \
	  -c requirements.lock -p 3.11 --extra postgres --extra exchange --extra s3 pyproject.toml deploy/build.in -o deploy/requirements.lock

demo: env ## the whole loop on the built-in market
	@$(BIN)/foredrift demo

test: env npm ## the whole suite, warnings are errors; speeds: make bench
	@$(BIN)/python -m pytest tests -n 4 --dist loadfile --no-loadscope-reorder

test-fast: env ## without the slow, chain, server and browser tests
	@$(BIN)/python -m pytest tests -n 2 --dist loadfile -m "not slow and not chain and not server and not browser"

npm: $(STAMP)
	@if command -v npm >/dev/null; then \
	  test -e $(NPM_DIR)/node_modules/.package-lock.json || npm ci --silent --no-audit --no-fund --omit=peer --prefix $(NPM_DIR); \
	else echo "npm is missing: the tests of the local chain will skip and say so"; fi

lint: env ## everything CI checks besides the tests
	@$(BIN)/ruff check . && $(BIN)/ruff format --check -q . && $(BIN)/mypy && $(BIN)/lint-imports

.PHONY: reference
reference: env ## docs/settings.md and its schema, from the code
	@$(BIN)/foredrift config schema --form markdown --out docs/settings.md
	@$(BIN)/foredrift config schema --out docs/settings.schema.json
	@$(BIN)/foredrift config schema --form verbs --out docs/verbs.md

.PHONY: docs
docs: env ## the documentation as a site in build/site, searchable offline; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet \
	  && echo "python -m http.server --bind 127.0.0.1 -d build/site 8000, then http://127.0.0.1:8000"

format: env
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .

bench: env npm ## figures against peers in the same run; the suite runs the same code once, untimed
	@$(BIN)/python -m pytest tests/bench -s -p no:xdist --benchmark-enable

fuzz: env npm ## 10,000 random sequences of keepers, holders and strangers against the vault
	@FOREDRIFT_FUZZ_SEQUENCES=10000 $(BIN)/python -m pytest tests/execution/test_fuzz.py tests/execution/test_vault_strangers.py -s --timeout 5400

enzyme: env npm ## an Enzyme fund: kills at every stage x reorganisations 0 to 3, then 10,000 sequences of a stolen manager's key
	@FOREDRIFT_ALL_CASES=1 $(BIN)/python -m pytest tests/execution/test_enzyme.py -p no:xdist -q --timeout 1800 && $(BIN)/python -m tests.execution.enzyme_fuzz

conformance: env npm ## the laws of every vault adapter, then gas of a plan and what each enforces, as a table
	@$(BIN)/python -m pytest tests/laws/test_vault.py -p no:xdist -q && $(BIN)/python -m tests.laws.conformance

lagoon: env npm ## a Lagoon vault: its tests, kills between any two of its owners' transactions, 10,000 sequences of a stolen key
	@FOREDRIFT_ALL_CASES=1 $(BIN)/python -m pytest tests/execution/test_lagoon.py tests/pipelines/test_settle_kills.py -p no:xdist -q --timeout 1800 && $(BIN)/python -m tests.execution.role_fuzz --vault lagoon --sequences 10000

stolenkey: env npm ## 10,000 random sequences of a stolen keeper's key against a Safe traded by role
	@$(BIN)/python -m tests.execution.role_fuzz --sequences 10000

kills: env ## import and ingest killed 25 times each, and ten million rows imported within 1.5 GiB
	@FOREDRIFT_KILLS=25 FOREDRIFT_IMPORT_ROWS=10000000 $(BIN)/python -m pytest tests/lake/test_kill.py tests/lake/test_files.py \
	  -k "killed or memory" -p no:xdist --timeout 1800


.PHONY: hedge-localnet hedge-fuzz lyra
lyra: env npm ## Black-Scholes of a published protocol, run on the local chain, against the kernel and the contracts here
	@$(BIN)/python -m tests.hedging.lyra

hedge-localnet: env npm ## a short straddle, a pool position and a staking token hedged through 200 moving blocks, with kills and reorganisations
	@$(BIN)/python -m tests.hedging.moving_blocks --blocks $(or $(BLOCKS),200) --seed $(or $(SEED),1)

hedge-fuzz: env npm ## 10,000 random hedge decisions (PLANS=) behind faults, kills and reorganisations; as many plans of a stolen hedge keeper
	@$(BIN)/python -m tests.hedging.plan_fuzz --plans $(or $(PLANS),10000) --seed $(or $(SEED),1)
	@FOREDRIFT_HEDGE_FUZZ=$(or $(PLANS),10000) $(BIN)/python -m pytest tests/hedging/test_contracts.py -k stolen -s --timeout 5400

keeper-kills: env npm ## a keeper killed at every checkpoint, in every state of its order, x reorganisations: the whole matrix
	@FOREDRIFT_KEEPER_KILLS=1 $(BIN)/python -m pytest tests/execution/test_keeper_kill.py tests/execution/test_keeper_offered.py -p no:xdist --timeout 1800

keep-trial: env npm ## a keeper on the local market behind every fault: 10,000 blocks, six zeros, latencies, memory
	@$(BIN)/foredrift keep --localnet --blocks $(or $(BLOCKS),10000) --faults all --seed $(or $(SEED),1) --json k.json

fleet: env npm ## what a block costs a keeper of 1, 10, 100 and 1,000 idle vaults, as a table
	@$(BIN)/python -m tests.bench.fleet_table $(ARGS)

keep-day: env npm ## 24 simulated hours of a kept vault and its scheduled runs: 5 kills, 2 node restarts, 10 stalls
	@$(BIN)/python -m tests.keeping.day $(ARGS)

files: env ## 200 made-up files: every import ends as the truth or as a refusal in words
	@FOREDRIFT_FILES=200 $(BIN)/python -m pytest tests/lake/test_generated_files.py tests/lake/test_reports.py -p no:xdist

order-kills: env npm ## an order's life killed at every stage x reorganisations of 0 to 3 blocks
	@FOREDRIFT_ORDER_KILLS=1 $(BIN)/python -m pytest tests/execution/test_intents.py -k killed -p no:xdist --timeout 1800

auctions: env npm ## 50 rounds of dutch and priority auctions on recorded prices: what the vault got, as a table (three minutes)
	@$(BIN)/python -m tests.execution.auction_rounds

matrix: env npm ## kill x fault x reorganisation on the local chain: every case, as a table (about four minutes)
	@$(BIN)/python -m tests.execution.brick_matrix
	@$(BIN)/python -m tests.execution.chain_matrix

matrix-chains: env ## a transfer between two chains: kill x fault x reorganisation x bridge kind, 2,000 runs (about two minutes)
	@$(BIN)/python -m tests.transfers.matrix 2000

pruned: env npm ## plans killed at every stage, settled 1,000 blocks later by a node that keeps 128 states (about 15 minutes)
	@FOREDRIFT_PRUNED=1 $(BIN)/python -m pytest tests/execution/test_pruned.py -p no:xdist --timeout 600

nodefuzz: env npm ## 2,000 malformed answers of a node in every stage of a step and a keeper: no traceback, no double, all recovered
	@$(BIN)/python -m tests.execution.node_fuzz $(or $(ANSWERS),2000)

oddities: env npm ## odd tokens, pools, feeds, keepers, Safes and nodes with every vault adapter, as a table (three minutes)
	@$(BIN)/python -m tests.oddities.table

replay: env npm ## 200 rebalances of the local chain, replayed by the simulated vault
	@FOREDRIFT_REPLAYS=200 $(BIN)/python -m pytest tests/execution/test_replay.py -s -p no:xdist --timeout 3600

sandwich: env npm ## 200 random swaps with a searcher in the pool: is the chosen channel the cheaper one?
	@FOREDRIFT_CHANNEL_CASES=200 $(BIN)/python -m pytest tests/execution/test_localnet_searcher.py tests/execution/test_mev_chain.py \
	  -s -p no:xdist --timeout 3600

audit: env ## insecure patterns and known vulnerabilities; a part that had no data to look with fails, too
	@$(BIN)/python -m tests.audit_run

attacks: env npm ## every attack on the money path: what it took from the first release, what now; ATTACKS="--only C1 --json FILE"
	@$(BIN)/python -m tests.attacks $(ATTACKS)

suspects: env npm ## touchy tests again and again until they fail: SUSPECTS="--times 20 --busy TEST..."
	@$(BIN)/python -m tests.suspects $(SUSPECTS)

search: env npm ## every property test with examples not seen before, TIMES=5 times over; a failure prints how to repeat it
	@for i in $$(seq $(or $(TIMES),5)); do $(BIN)/python -m pytest tests -n 2 -q -m "hypothesis and not chain and not server" --hypothesis-profile=search || exit 1; done

ops: env ## ten simulated hours on schedule, worker killed twice, server once; on SQLite, then PostgreSQL (26 minutes)
	@$(BIN)/python -m tests.pipelines.ops_run $(or $(OPS_ARGS),--both)

.PHONY: compose-day
compose-day: env ## a simulated day of the services of deploy/compose.yaml as processes, each killed once: ARGS="--minutes 24"
	@$(BIN)/python -W ignore -m tests.ops.compose_day $(ARGS)

.PHONY: image-steps
image-steps: env ## the steps of deploy/Dockerfile in a clean folder, where no builder of images is, and its verbs from there
	@$(BIN)/python -m tests.ops.image_steps $(ARGS)

pictures: env ## docs/images of a portfolio that lives on paper for them (about five minutes), or PROJECT=folder of a foredrift.toml
	@$(BIN)/python -m tests.pipelines.pictures $(PROJECT)

growth: env ## load, features and reads at 1, 10 and 100 million rows
	@$(BIN)/python -m tests.bench.growth_table

heads: env ## the follower of heads through every fault of node and websocket: ARGS="--blocks 10000 --seed 1" (some minutes)
	@$(BIN)/python -W ignore -m tests.realtime.heads_run $(ARGS)

realtime: env ## what looking within the hour is worth on recorded history: ARGS="--portfolios 24 --both" (some minutes)
	@$(BIN)/python -W ignore -m tests.bench.realtime_table $(ARGS)

flows: env ## what netting holders' deposits and withdrawals against the rebalance saves, bp a year: ARGS="--portfolios 24" (two minutes)
	@$(BIN)/python -W ignore -m tests.bench.flows_table $(ARGS)

chains: env ## one portfolio on three chains on recorded history: every cell, sensitivity, against what is asked (some minutes)
	@$(BIN)/python -W ignore -m tests.bench.chains_table $(ARGS)

mirrored: env ## policies on mirrored pasts of a project: PROJECT=DIR ARGS="START END BASKETS" (some minutes)
	@$(BIN)/python -m tests.bench.mirrored_table $(or $(PROJECT),.) $(ARGS)

.PHONY: port-fuzz
port-fuzz: env npm ## 10,000 steps of a stolen keeper's key at the vault's port: whatever leaves goes to our own vault
	@$(BIN)/python -m tests.execution.port_fuzz $(or $(STEPS),10000) $(or $(SEED),1)

.PHONY: matrix-real
matrix-real: env npm ## transfers over two local chains by CCTP, Across and an OFT: kill x fault x reorganisation, judged at every look
	@$(BIN)/python -m tests.transfers.real_matrix $(or $(RUNS),600) $(or $(SEED),1) $(or $(PART),0) $(or $(PARTS),1)
