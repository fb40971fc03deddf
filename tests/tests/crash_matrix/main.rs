//! G7, and G1–G5 through it: every step of a move is held open while the source,
//! the target or home is killed, loses its Redis or is paused; clients go on.
//!
//! A test's name says it all: `from_home::source_frozen::g7_kill_target`. All nodes
//! are processes with a Redis of their own (`appendfsync always`). The session is large
//! enough to be copied before it is frozen.

mod scene;

/// One module a step, one test a blow.
macro_rules! at_each_step {
    ($route:ident: $($name:ident $step:literal,)+) => {
        $(mod $name {
            use crate::scene::{Blow, Part, Route, play};
            crate::strike_each!($route, $step);
        })+
    };
}

/// The blows of a route: a part is struck once, whatever else it is.
macro_rules! strike_each {
    (Onwards, $step:literal) => {
        crate::strike!(
            Onwards,
            $step,
            Source,
            g7_kill_source,
            g7_kill_redis_of_source,
            g7_pause_source
        );
        crate::strike!(
            Onwards,
            $step,
            Target,
            g7_kill_target,
            g7_kill_redis_of_target,
            g7_pause_target
        );
        crate::strike!(Onwards, $step, Home, g7_kill_home, g7_kill_redis_of_home, g7_pause_home);
    };
    ($route:ident, $step:literal) => {
        crate::strike!(
            $route,
            $step,
            Source,
            g7_kill_source,
            g7_kill_redis_of_source,
            g7_pause_source
        );
        crate::strike!(
            $route,
            $step,
            Target,
            g7_kill_target,
            g7_kill_redis_of_target,
            g7_pause_target
        );
    };
}

macro_rules! strike {
    ($route:ident, $step:literal, $part:ident, $kill:ident, $redis:ident, $pause:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $kill() {
            play(Route::$route, $step, Part::$part, Blow::Kill).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $redis() {
            play(Route::$route, $step, Part::$part, Blow::KillRedis).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $pause() {
            play(Route::$route, $step, Part::$part, Blow::Pause).await;
        }
    };
}

pub(crate) use {strike, strike_each};

/// navigli → milan; navigli is home.
mod from_home {
    at_each_step! { FromHome:
        source_offload "source.offload",
        target_opened "target.opened",
        source_agree "source.agree",
        source_agreed "source.agreed",
        target_agreed "target.agreed",
        source_copy "source.copy",
        source_copying "source.copying",
        target_copying "target.copying",
        target_copied "target.copied",
        source_freeze "source.freeze",
        source_frozen "source.frozen",
        target_frozen "target.frozen",
        target_staged "target.staged",
        target_installed "target.installed",
        source_done "source.done",
        source_moved "source.moved",
        target_done "target.done",
        target_settled "target.settled",
    }
}

/// milan → italy; navigli is home and has to be told.
mod onwards {
    at_each_step! { Onwards:
        source_offload "source.offload",
        target_opened "target.opened",
        source_agree "source.agree",
        source_agreed "source.agreed",
        target_agreed "target.agreed",
        target_copying "target.copying",
        source_freeze "source.freeze",
        source_frozen "source.frozen",
        target_frozen "target.frozen",
        target_staged "target.staged",
        target_installed "target.installed",
        source_done "source.done",
        source_moved "source.moved",
        target_done "target.done",
        target_settled "target.settled",
        home_update "home.update",
        home_updated "home.updated",
        target_told "target.told",
    }
}

/// italy → navigli, the session's home.
mod homewards {
    at_each_step! { Homewards:
        target_opened "target.opened",
        source_agree "source.agree",
        source_agreed "source.agreed",
        target_agreed "target.agreed",
        source_copying "source.copying",
        source_freeze "source.freeze",
        source_frozen "source.frozen",
        target_frozen "target.frozen",
        target_staged "target.staged",
        target_installed "target.installed",
        source_done "source.done",
        source_moved "source.moved",
        target_done "target.done",
        target_settled "target.settled",
    }
}
