//! Puts the units of one program together: opens what the roles ask for and hands each unit its
//! neighbours, in process where they are here, over HTTP where they are elsewhere.
//!
//! The only place that knows every unit. Not here: what any of them does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, bail};
use axum::Router;
use spec::contract::{Class, Compute, Permanent, Scheduler};
use spec::{Address, Signer};
use wire::client::Http;

use crate::cli::Role;
use crate::config::Config;
use crate::events::{self, Feeds};
use crate::infer;
use crate::infer::front::Front;
use crate::mainnet::{self, Mainnet};
use crate::spawn_rules::{self, SpawnRules};
use crate::upload::{self, Board, Upload};
use crate::wallet;

/// The units of this program.
pub struct Node {
    /// Permanent storage, with the scheduler or as gateway.
    pub weave: Option<Arc<weave::Weave>>,
    /// Scheduler unit.
    pub su: Option<Arc<su::Su>>,
    /// Compute unit.
    pub cu: Option<Arc<cu::Cu>>,
    /// Messenger unit.
    pub mu: Option<Arc<mu::Mu>>,
    /// The outcomes of processes as they happen, where a compute unit is here.
    pub feeds: Option<Arc<Feeds>>,
    /// Tells how far the permanent log got; there with the weave.
    pub board: Option<Arc<Board>>,
    /// What the mainnet routes speak to; there with the messenger.
    pub mainnet: Option<Arc<Mainnet>>,
    /// Answers with models, for people and agents.
    pub front: Arc<Front>,
    /// Accounts of the units that run here.
    pub addresses: Addresses,
    /// Signs what the node itself writes, such as modules added without a wallet.
    pub signer: Arc<Signer>,
    /// Where everything lies.
    pub data: PathBuf,
    /// Keeps a second node out of the folder.
    _lock: Option<std::fs::File>,
}

/// Accounts of the units that run here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// Messenger unit.
    pub mu: Option<Address>,
    /// Scheduler unit.
    pub su: Option<Address>,
    /// Compute unit.
    pub cu: Option<Address>,
}

/// The units' keys.
struct UnitKeys {
    mu: Arc<Signer>,
    /// It signs what carriers say of themselves, too.
    su: Arc<Signer>,
    cu: Arc<Signer>,
}

/// What the other units stand on.
struct Ground {
    weave: Option<Arc<weave::Weave>>,
    /// The folder's lock, where no weave holds it.
    lock: Option<std::fs::File>,
    su: Option<Arc<su::Su>>,
    upload: Option<(Arc<Upload>, Address)>,
}

impl Ground {
    async fn open(config: &Config, keys: &UnitKeys, payer: Option<Signer>, data: &Path) -> Result<Ground> {
        let has_weave = config.has(Role::Su) || config.has(Role::Gateway);
        let (weave, lock) = match has_weave {
            true => (Some(open_weave(config, data).await?), None),
            false => (None, Some(lock(data)?)),
        };
        let su = match config.has(Role::Su) {
            true => Some(open_su(config, weave.as_ref(), keys.su.clone(), keys.mu.address(), data).await?),
            false => None,
        };
        let upload = match weave.as_ref().zip(payer) {
            Some(both) => Some(open_upload(config, both, (keys.su.clone(), su.as_deref()), data).await?),
            None => None,
        };
        Ok(Ground {
            weave,
            lock,
            su,
            upload,
        })
    }
}

impl Node {
    /// Opens the units that the configuration's roles name.
    pub async fn open(config: &Config) -> Result<Node> {
        let data = config.data.clone().expect("the configuration was checked");
        let payer = payer(config)?;
        make_private(&data)?;
        make_private(&data.join("keys"))?;
        let keys = UnitKeys::read(config, &data)?;
        let own = (keys.mu.address(), keys.su.address(), keys.cu.address());
        let Ground {
            weave,
            lock,
            su,
            upload,
        } = Ground::open(config, &keys, payer, &data).await?;
        let neighbours = || {
            Ok::<_, anyhow::Error>((
                scheduler(config, su.as_ref())?,
                permanent(config, weave.as_ref())?,
            ))
        };
        let cu = match config.has(Role::Cu) {
            true => Some(open_cu(config, neighbours()?, &keys, su.as_ref(), &data)?),
            false => None,
        };
        let units = match config.has(Role::Mu) {
            true => Some(units(config, neighbours()?, cu.as_ref())?),
            false => None,
        };
        let feeds = match &cu {
            Some(cu) => Some(Feeds::new(cu.clone(), neighbours()?.0, config.http.feeds_max)),
            None => None,
        };
        let mu = match &units {
            Some(units) => Some(open_mu(config, units.clone(), &keys.mu, &data)?),
            None => None,
        };
        let mainnet = mu.clone().zip(units).map(|(messenger, units)| Mainnet {
            messenger,
            scheduler: units.scheduler,
            compute: units.compute,
            scheduler_address: su.is_some().then_some(own.1),
        });
        let board = weave
            .clone()
            .map(|weave| board(config, weave, su.clone(), upload, &data));
        let addresses = Addresses {
            mu: mu.is_some().then_some(own.0),
            su: su.is_some().then_some(own.1),
            cu: cu.is_some().then_some(own.2),
        };
        let (front, service) = infer::open(&config.infer, models(config, weave.as_ref(), &data));
        if let Some(cu) = &cu {
            cu.infer_with(service);
        }
        Ok(Node {
            weave,
            su,
            cu,
            mu,
            feeds: feeds.map(Arc::new),
            board,
            mainnet: mainnet.map(Arc::new),
            front: Arc::new(front),
            addresses,
            signer: keys.mu,
            data,
            _lock: lock,
        })
    }

    /// All routes: the gateway and the mainnet's at the root, each unit under its name.
    pub fn router(&self, config: &Config) -> Router {
        let mut router = Router::new();
        if let Some(weave) = self.weave.as_ref().filter(|_| config.has(Role::Gateway)) {
            let stand_ins = spawn_rules::stand_ins(cu::kernel_id(), self.signer.address());
            router = router.merge(weave::http::router_with(weave.clone(), stand_ins));
        }
        if let Some(board) = &self.board {
            router = router.merge(upload::http::router(board.clone()));
        }
        if let Some(su) = &self.su {
            router = router.nest("/su", su::http::router(su.clone()));
        }
        let events = self.feeds.as_ref().map(|feeds| events::router(feeds.clone()));
        let events = events.unwrap_or_default();
        if let Some(cu) = &self.cu {
            router = router.merge(events.clone());
            router = router.nest("/cu", cu::http::router(cu.clone()).merge(events));
        }
        if let Some(mu) = &self.mu {
            router = router.nest("/mu", mu::http::router(mu.clone()));
        }
        if let Some(mainnet) = &self.mainnet {
            router = router.merge(mainnet::router(mainnet.clone()));
        }
        router.merge(infer::front::router(self.front.clone()))
    }

    /// Ends the streams of outcomes and of models, so that their readers do not hold the listener.
    pub fn stop_feeds(&self) {
        self.front.stop();
        if let Some(feeds) = &self.feeds {
            feeds.stop();
        }
    }

    /// Stops the units from the top down; each makes durable what it must.
    pub async fn close(&self) {
        if let Some(mu) = &self.mu {
            mu.close().await;
        }
        if let Some(cu) = &self.cu {
            cu.close().await;
        }
        // The scheduler stops before the log it writes to.
        if let Some(su) = self.su.clone() {
            let closed = tokio::task::spawn_blocking(move || su.close()).await;
            if let Ok(Err(error)) = closed {
                tracing::warn!("the scheduler's index was not written and will be rebuilt: {error}");
            }
        }
        if let Some(Ok(upload)) = self.board.as_ref().map(|board| board.upload()) {
            upload.close().await;
        }
        if let Some(weave) = &self.weave {
            weave.close().await;
        }
    }
}

impl UnitKeys {
    fn read(config: &Config, data: &Path) -> Result<UnitKeys> {
        let read = |given: &Option<PathBuf>, name: &str| match given {
            // A key that was named must be there: making one instead would change who the unit is.
            Some(path) => wallet::read(path),
            None => wallet::read_or_create(&data.join("keys").join(name)),
        };
        Ok(UnitKeys {
            mu: Arc::new(read(&config.keys.mu, "mu.json")?),
            su: Arc::new(read(&config.keys.su, "su.json")?),
            cu: Arc::new(read(&config.keys.cu, "cu.json")?),
        })
    }
}

/// Where the node's state of upload is read.
fn board(
    config: &Config,
    weave: Arc<weave::Weave>,
    su: Option<Arc<su::Su>>,
    upload: Option<(Arc<Upload>, Address)>,
    data: &Path,
) -> Arc<Board> {
    let scheduler = su.map(|su| su as Arc<dyn Scheduler>);
    let (upload, wallet) = upload.unzip();
    Arc::new(Board::new(
        weave,
        scheduler,
        upload,
        (config.upload.clone(), wallet),
        data.join("cache"),
    ))
}

/// What compute unit and messenger both stand on.
type Neighbours = (Arc<dyn Scheduler>, Arc<dyn Permanent>);

/// Makes a folder that only its owner can enter.
pub fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// The folder's lock, for a node without a weave; a weave takes the same one.
fn lock(data: &Path) -> Result<std::fs::File> {
    let path = data.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let taken = file.try_lock();
    taken.map_err(|_| {
        anyhow!(
            "{}: another node uses this data folder; stop it, or take another --data",
            data.display()
        )
    })?;
    Ok(file)
}

fn http(config: &Config, url: &str) -> Result<Http> {
    Ok(Http::new(url, &config.client)?)
}

/// A unit that is neither here nor named cannot be reached.
fn missing(unit: &str, flag: &str) -> anyhow::Error {
    anyhow!("no {unit} among the roles: add its role, or say where it is with {flag} URL")
}

fn permanent(config: &Config, weave: Option<&Arc<weave::Weave>>) -> Result<Arc<dyn Permanent>> {
    match (weave, &config.peers.gateway) {
        (Some(weave), _) => Ok(weave.clone()),
        (None, Some(url)) => Ok(Arc::new(wire::permanent::Client::new(http(config, url)?))),
        (None, None) => Err(missing("gateway", "--gateway-url")),
    }
}

fn scheduler(config: &Config, su: Option<&Arc<su::Su>>) -> Result<Arc<dyn Scheduler>> {
    match (su, &config.peers.su) {
        (Some(su), _) => Ok(su.clone()),
        (None, Some(url)) => Ok(Arc::new(wire::scheduler::Client::new(http(config, url)?))),
        (None, None) => Err(missing("scheduler unit", "--su-url")),
    }
}

/// Opening scans the log, which blocks.
async fn open_weave(config: &Config, data: &Path) -> Result<Arc<weave::Weave>> {
    if weave::retrieve::Staging::is_unfinished(data) {
        bail!(
            "{}: a rebuild in this folder is not finished, and a new log would take the old one's place. Remedy: give the \
             same `weft rebuild` again, which goes on where it was, or remove {0}/rebuild",
            data.display()
        );
    }
    let (config, data) = (config.weave.clone(), data.to_path_buf());
    let weave = tokio::task::spawn_blocking(move || weave::Weave::open(config, &data)).await??;
    weave.overlay(cu::shipped::items())?;
    Ok(weave)
}

/// The key that pays for uploads, where the configuration has a route. A node that could not pay touches no folder.
fn payer(config: &Config) -> Result<Option<Signer>> {
    let has_weave = config.has(Role::Su) || config.has(Role::Gateway);
    match (config.upload.is_on(), has_weave) {
        (false, _) => Ok(None),
        (true, false) => bail!("--upstream: only a node with a weave uploads; add the role su or gateway"),
        (true, true) => config.upload.signer().map(Some),
    }
}

/// The scheduler's epoch, and whether it is suspended.
fn standing(config: &Config, weave: &weave::Weave, su: Option<&su::Su>, data: &Path) -> Result<(u64, bool)> {
    match su {
        Some(su) => Ok((su.epoch(), su.is_suspended())),
        None => Ok(su::resume::standing(&config.su, data, &**weave.log())?),
    }
}

/// Sets the uploader to work. Of the keys, the node's signs what carriers say, the payer's signs and pays for them.
async fn open_upload(
    config: &Config,
    (weave, payer): (&Arc<weave::Weave>, Signer),
    (node, su): (Arc<Signer>, Option<&su::Su>),
    data: &Path,
) -> Result<(Arc<Upload>, Address)> {
    let settings = &config.upload;
    let (epoch, is_suspended) = standing(config, weave, su, data)?;
    let owner = payer
        .transaction_owner()
        .context("the settings checked the key")?;
    let (peers, find) = settings.peers().await?;
    let parts = weave::upload::Parts {
        log: weave.log().clone(),
        cache: Some(data.join("cache")),
        node,
        epoch,
        wallet: Arc::new(payer),
        peers,
        find: Some(find),
        bundlers: settings.bundlers()?,
    };
    let mut limits = settings.config.clone();
    if is_suspended {
        // Another node may carry on with this log: what this one carried would stand beside it.
        limits.dry_run = true;
        eprintln!("nothing is uploaded while scheduling is suspended");
    }
    let opened = tokio::task::spawn_blocking(move || weave::upload::Uploader::open(parts, limits)).await??;
    Ok((Arc::new(Upload::start(opened).await?), owner.address()))
}

async fn open_su(
    config: &Config,
    weave: Option<&Arc<weave::Weave>>,
    signer: Arc<Signer>,
    messenger: Address,
    data: &Path,
) -> Result<Arc<su::Su>> {
    let weave = weave.expect("a scheduler's node has a weave");
    if config.resume_scheduling {
        resume(config, weave, &signer, data).await?;
    }
    let chain = weave.clone();
    let before = Arc::new(OnceLock::new());
    let rules = Arc::new(SpawnRules {
        own: own_accounts(config, signer.address(), messenger),
        before: before.clone(),
        listen: config.listen(),
        weave: weave.clone(),
        kernel: cu::kernel_id(),
        uploads: config.upload.is_on(),
    });
    let parts = su::Parts {
        signer,
        journal: weave.log().clone(),
        permanent: weave.clone(),
        now: su::clock::wall_clock(),
        heights: Arc::new(move |ms| chain.chain().height_at(ms)),
        chain: weave.chain().describe(),
        boot_tags: Arc::new(move |process| {
            let rules = rules.clone();
            Box::pin(async move { rules.notes(&process).await })
        }),
        // Nothing is uploaded without an upload route.
        class: match config.upload.is_on() {
            true => Class::Permanent,
            false => Class::Local,
        },
        belongings: Arc::new(su::belongings::InWeave {
            weave: weave.clone(),
            messenger,
        }),
    };
    let su = su::Su::open(config.su.clone(), data, parts)?;
    before.get_or_init(|| su.predecessors());
    Ok(su)
}

/// Ends a suspension, where there is one.
async fn resume(config: &Config, weave: &Arc<weave::Weave>, signer: &Arc<Signer>, data: &Path) -> Result<()> {
    let now_ms = su::clock::wall_clock()();
    match su::resume::resume(&config.su, data, &**weave.log(), signer, now_ms).await? {
        Some(resumed) => eprintln!(
            "scheduling goes on under epoch {}, after the last published slot of each of {} processes",
            resumed.epoch, resumed.processes
        ),
        None => eprintln!("--resume-scheduling: scheduling is not suspended here; nothing was done"),
    }
    Ok(())
}

/// Whom a process may name as its scheduler without being adopted: the scheduler, and the messenger
/// beside it, whose account the mainnet's clients take for the node's.
fn own_accounts(config: &Config, scheduler: Address, messenger: Address) -> Vec<Address> {
    match config.has(Role::Mu) {
        true => vec![scheduler, messenger],
        false => vec![scheduler],
    }
}

fn open_cu(
    config: &Config,
    (scheduler, permanent): Neighbours,
    keys: &UnitKeys,
    su: Option<&Arc<su::Su>>,
    data: &Path,
) -> Result<Arc<cu::Cu>> {
    let address = keys.cu.address().to_string();
    let mut settings = config.cu.clone();
    settings.inference.models = Some(models_folder(config, data));
    let cu = cu::Cu::open(settings, scheduler, permanent, data, address)?;
    let is_suspended = su.is_some_and(|su| su.is_suspended());
    if config.upload.is_on() && !config.upload.config.dry_run && !is_suspended {
        publish_checkpoints(&cu, keys, su)?;
    }
    Ok(cu)
}

/// Lets the compute unit put checkpoints into the log that goes up, and its scheduler name it as the one that makes
/// them: a node that lost everything finds out from the log alone whose checkpoints may be built on.
fn publish_checkpoints(cu: &Arc<cu::Cu>, keys: &UnitKeys, su: Option<&Arc<su::Su>>) -> Result<()> {
    let naming = su.map(|_| cu::permanent::naming(&keys.su, keys.cu.address()));
    let is_permanent = su.cloned().map(|su| {
        let asked = move |process| su.is_permanent(process);
        Arc::new(asked) as cu::permanent::IsWidened
    });
    cu.publish_checkpoints(cu::permanent::Publisher {
        signer: keys.cu.clone(),
        naming: naming.transpose()?,
        is_widened: is_permanent,
    });
    Ok(())
}

/// Models of permanent storage, for processes and for the front.
fn models(
    config: &Config,
    weave: Option<&Arc<weave::Weave>>,
    data: &Path,
) -> Option<Arc<dyn inference::service::Models>> {
    let permanent = permanent(config, weave).ok()?;
    let (bytes_max, runtime) = (
        config.cu.inference.model_bytes_max,
        tokio::runtime::Handle::current(),
    );
    let folder = Some(models_folder(config, data));
    let models = cu::ai::WeaveModels::new(permanent, runtime, bytes_max, folder);
    Some(Arc::new(models.opened_by(infer::map_file)))
}

/// Where models lie that are too large for the log.
fn models_folder(config: &Config, data: &Path) -> PathBuf {
    let named = config.cu.inference.models.clone();
    named.unwrap_or_else(|| data.join("models"))
}

/// The messenger's neighbours.
fn units(config: &Config, (scheduler, permanent): Neighbours, cu: Option<&Arc<cu::Cu>>) -> Result<mu::Units> {
    let compute: Arc<dyn Compute> = match (cu, &config.peers.cu) {
        (Some(cu), _) => cu.clone(),
        (None, Some(url)) => Arc::new(wire::compute::ComputeClient::new(http(config, url)?)),
        (None, None) => return Err(missing("compute unit", "--cu-url")),
    };
    Ok(mu::Units {
        scheduler,
        compute,
        permanent,
    })
}

fn open_mu(config: &Config, units: mu::Units, signer: &Arc<Signer>, data: &Path) -> Result<Arc<mu::Mu>> {
    Ok(mu::Mu::open(
        config.mu.clone(),
        &data.join("cache"),
        signer.clone(),
        units,
    )?)
}
