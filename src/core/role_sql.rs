//! role_sql
