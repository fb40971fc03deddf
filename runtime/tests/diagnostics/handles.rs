use funicular::prelude::*;

pub async fn numbers_are_not_values(db: &mut EdgeDb) -> Result<()> {
    db.set("count", 3)
}

pub async fn readers_do_not_write(db: &ReadDb) -> Result<()> {
    db.set("count", "3")
}

pub fn handles_stay_in_their_request(db: &mut EdgeDb) -> impl Future<Output = ()> + Send + 'static {
    async move {
        let _ = db.get("count").await;
    }
}

pub fn there_is_one_handle(db: &EdgeDb) -> EdgeDb {
    EdgeDb::clone(db)
}
