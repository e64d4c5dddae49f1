# Every target sets up what it needs; a second call finds it there.
PY := .venv/bin/python
export HF_HUB_OFFLINE := 1
export RAY_USAGE_STATS_ENABLED := 0
DEMO := out/demo

.PHONY: demo test coverage chaos clouds hosts contract retrain judge bench modes gpu lint setup
setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv .venv
	$(PY) -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

demo: setup
	.venv/bin/longtake run jobs/examples/water_cycle.yaml --out $(DEMO)
	.venv/bin/longtake verify $(DEMO)/films/*.mp4
	@echo "films    $(DEMO)/films"
	@echo "results  $(DEMO)/results.parquet"
	@echo "report   $(DEMO)/report/index.html"

# Two processes share the tests, module by module by name: those of gangs on Ray, the longest, come early so.
test: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Which lines the tests reach; slower by a third.
coverage: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

# The tests of recovery with many more moments of death, 200 storms, in which links are cut for 30 s too, and 200
# films with poison among them; slow.
# LONGTAKE_CHAOS_SEEDS=57:200 goes on with storms from the 57th, 57:58 plays one again.
chaos: setup
	LONGTAKE_CHAOS_SEEDS=$(or $(LONGTAKE_CHAOS_SEEDS),200) $(PY) -m pytest -s tests/test_cluster_storm.py tests/test_poison.py
	LONGTAKE_CHAOS_SEEDS=20 $(PY) -m pytest tests/test_cluster_chaos.py tests/slow_chaos.py tests/slow_exhausted.py tests/test_jobs_crash.py
	$(PY) -m pytest tests/slow_node_lost.py tests/slow_growth.py
	LONGTAKE_CHAOS_SEEDS=20 $(PY) -m pytest tests/test_manifests_faults.py tests/test_jobs_faults.py tests/slow_drivers.py

# The tests of a store on Google's cloud and Azure, as server processes of this machine; node, npm, some minutes.
AZURITE := .venv/azurite/node_modules/azurite/package.json
clouds: setup $(AZURITE)
	$(PY) -m pip install -q -c constraints.txt -e ".[dev,clouds]"
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/slow_clouds.py

# The last Azurite that runs on Debian's own node.
$(AZURITE):
	@command -v node >/dev/null && command -v npm >/dev/null || { echo "make clouds needs node and npm for Azurite: apt install npm"; exit 1; }
	npm install --prefix .venv/azurite --no-audit --no-fund --loglevel=error azurite@3.35.0

# A film on four hosts in network namespaces that lose power and links; root, about ten minutes.
hosts: setup
	$(PY) -m pytest -s tests/slow_hosts.py

# Writes README's tables: how closely gangs agree with one rank, and streams with whole decodes.
contract: setup
	LONGTAKE_CONTRACT=1 $(PY) -m pytest tests/test_engine_parallel.py tests/test_engine_decode_paths.py

# Trains chalk's first steps again and compares their losses with the committed ones.
retrain: setup
	$(PY) -m pytest tests/slow_chalk_retrain.py

# Asks chalk for 200 held-out captions in three languages and reads what it drew; about 25 minutes.
judge: setup
	$(PY) -m engine.chalk.judge --out out/judge
	$(PY) -m engine.chalk.long_shots --out out/judge

bench: setup
	$(PY) -m pip install -q -c constraints.txt -e ".[dev,bench]"
	$(PY) tests/bench/bench_gang.py
	$(PY) tests/bench/bench_batch.py
	$(PY) tests/bench/bench_memory.py
	$(PY) tests/bench/bench_pool.py
	$(PY) tests/bench/bench_plan.py
	$(PY) tests/bench/bench_restart.py
	$(PY) tests/bench/bench_farm.py --plot docs/farm.png
	$(PY) tests/bench/bench_cache.py
	$(PY) tests/bench/bench_precision.py

# Draws ten long shots of chalk by each mode; about 25 minutes.
modes: setup
	$(PY) tests/bench/bench_modes.py --out out/modes

# On a machine with a CUDA GPU, in an environment whose PyTorch sees it (PY=...).
gpu:
	$(PY) -m pytest -rA tests/slow_gpu.py
	$(PY) tests/bench/bench_gpu.py --out out/gpu

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
