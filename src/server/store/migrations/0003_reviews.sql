-- When a broken glass is to be reviewed, until it is.
alter table requests add column review integer;

create index requests_by_review on requests (review) where review is not null;
