-- What small writes changed, sealed, until it expires.
create table images (
    session   text not null,
    statement integer not null,
    expires   integer not null,
    sealed    blob not null,
    primary key (session, statement)
) strict;

create index images_by_expiry on images (expires);
